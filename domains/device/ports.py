"""What the device domain needs from outside its pure core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domains.device.types import Adapter, Device, Discovery, WorkerStatus


class DeviceProbe(Protocol):
    """Looks for devices, in processes of their own so that no driver can harm this one."""

    def processor(self) -> Adapter:
        """The processor; known without asking a driver, so at once."""
        ...

    async def discover(self) -> Discovery:
        """Find every adapter of the machine, the processor included.

        A kind that cannot be looked for, or whose driver crashes or hangs, is an
        outcome with an explanation and never an exception.
        """
        ...


class Workers(Protocol):
    """The worker processes, as the device domain sees them."""

    async def start(self, devices: Sequence[Device]) -> None:
        """Start a worker for each device that has none; returns before they are ready."""
        ...

    def status(self, device_id: str) -> WorkerStatus:
        """How the worker of `device_id` is; `UNAVAILABLE` when there is none."""
        ...
