"""Where bytes can lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where bytes can lie: a device's memory, or main memory when `device_id` is empty.

    `pinned` main memory is page-locked for faster copies to and from a device.
    """

    device_id: str = ""
    pinned: bool = False

    @property
    def host(self) -> bool:
        """Whether it is main memory, pinned or not."""
        return not self.device_id

    def __str__(self) -> str:
        return self.device_id or ("pinned main memory" if self.pinned else "main memory")


@dataclass(frozen=True)
class Extent:
    """Bytes of a memory in all and free; None where nobody tells."""

    total: int | None
    free: int | None
