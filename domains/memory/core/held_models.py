"""The models that workers hold, as the port `ModelMemory` wants them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from domains.device.core import DeviceInventory
from domains.device.jobs import ReleaseJob, ReleaseReport
from domains.device.ports import DeviceRuns
from domains.memory.types import HeldComponent
from domains.session.jobs import JobEvent


class HeldModels:
    """What the workers last told of their models, and the order to let some go.

    Args:
        devices: Knows the devices.
        runs: The devices' workers.
    """

    def __init__(self, devices: DeviceInventory, runs: DeviceRuns) -> None:
        self._devices = devices
        self._runs = runs

    def held(self) -> tuple[HeldComponent, ...]:
        """Every component in a device's memory, when its worker last told."""
        return tuple(
            HeldComponent(device.device_id, component)
            for device in self._devices.devices
            if (figures := self._runs.figures(device.device_id)) is not None
            for component in figures.models
        )

    async def release(
        self,
        device_id: str,
        session_id: str,
        model_ids: tuple[str, ...],
        *,
        remaining: float,
    ) -> AsyncGenerator[JobEvent | tuple[HeldComponent, ...]]:
        """Let these models go; see the port `ModelMemory`."""
        job = ReleaseJob(model_ids)
        events = self._runs.run(device_id, session_id, job, remaining=remaining)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, ReleaseReport):
                    yield tuple(HeldComponent(device_id, part) for part in event.released)
                else:
                    yield event
