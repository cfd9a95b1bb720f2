"""The behaviour of the memory domain."""

from domains.memory.core.monitor import MemoryMonitor

__all__ = ["MemoryMonitor"]
