"""What the memory domain needs from outside its pure core."""

from __future__ import annotations

from typing import Protocol

from domains.memory.types import HostMemory


class HostMemoryReader(Protocol):
    """Reads main memory."""

    def read(self) -> HostMemory:
        """Main memory now. Takes milliseconds and may block: call it off the loop."""
        ...
