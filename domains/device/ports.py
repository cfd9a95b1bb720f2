"""What the device domain needs from outside its pure core."""

from __future__ import annotations

from typing import Protocol

from domains.device.types import Discovery, WorkerStatus


class DeviceProbe(Protocol):
    """Looks for devices, in a process of its own so that no driver can harm this one."""

    async def discover(self) -> Discovery:
        """Find every device of the machine; always at least the processor."""
        ...


class Workers(Protocol):
    """The worker processes, as the device domain sees them."""

    def status(self, device_id: str) -> WorkerStatus:
        """How the worker of `device_id` is; `UNAVAILABLE` when there is none."""
        ...
