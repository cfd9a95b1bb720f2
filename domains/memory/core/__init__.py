"""The behaviour of the memory domain."""

from domains.memory.core.monitor import MemoryMonitor
from domains.memory.core.service import MemoryService

__all__ = ["MemoryMonitor", "MemoryService"]
