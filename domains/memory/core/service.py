"""Everything behind MemoryService."""

from __future__ import annotations

from dataclasses import dataclass

from domains.memory.core.access import Access
from domains.memory.core.adviser import MemoryAdviser
from domains.memory.core.copies import Copies
from domains.memory.core.defragment import Defragmentation
from domains.memory.core.leases import Leases
from domains.memory.core.model_memory import ModelsInMemory
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.core.recorder import MemoryRecorder
from domains.memory.core.watch import PressureWatch


@dataclass(frozen=True)
class MemoryService:
    """The parts that the service's methods call, in the order of the contract."""

    monitor: MemoryMonitor
    watch: PressureWatch
    leases: Leases
    access: Access
    copies: Copies
    defragmentation: Defragmentation
    models: ModelsInMemory
    recorder: MemoryRecorder
    adviser: MemoryAdviser
