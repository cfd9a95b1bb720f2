"""Everything behind MemoryService."""

from __future__ import annotations

from dataclasses import dataclass

from domains.memory.core.access import Access
from domains.memory.core.copies import Copies
from domains.memory.core.leases import Leases
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.core.reactions import PressureReactions
from domains.memory.core.watch import PressureWatch


@dataclass(frozen=True)
class MemoryService:
    """The parts that the service's methods call."""

    monitor: MemoryMonitor
    watch: PressureWatch
    reactions: PressureReactions
    leases: Leases
    access: Access
    copies: Copies
