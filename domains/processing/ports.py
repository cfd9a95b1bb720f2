"""What this domain needs from others."""

from __future__ import annotations

from typing import Protocol

from domains.device.types import DeviceReport


class Devices(Protocol):
    """The machine's devices."""

    async def get(self, name: str) -> DeviceReport:
        """The device of that id or alias; empty means the default one.

        Raises:
            DomainError: There is none of that name, or it may still be found.
        """
        ...
