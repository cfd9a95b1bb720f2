"""Whether a machine can ever do a chain, before that is accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from domains.chain.core.preparing import PreparedChain
from domains.chain.jobs import ChainJob
from domains.chain.jobs.room import chain_bytes, network_bytes
from domains.device.types import Device, DeviceChoice
from domains.errors import Reason, ResourceExhausted
from domains.postprocessing.ports import PlacedDevices

MainMemory = Callable[[], Awaitable[int | None]]
"""Bytes of the main memory of every machine that work may be done on; None where they are not
known, or differ."""
_FULL, _HALF = 4, 2


class Room:
    """Refuses chains that need more memory than there is in all. What is free then is looked at
    by the worker, before each step.

    Args:
        main_memory: What there is in all.
        devices: The machine's.
    """

    def __init__(self, main_memory: MainMemory, devices: PlacedDevices) -> None:
        self._main_memory = main_memory
        self._devices = devices

    async def total(self) -> int | None:
        """Bytes of main memory in all; None where that is not known."""
        return await self._main_memory()

    def check(
        self, chain: PreparedChain, job: ChainJob, device_id: str, total: int | None
    ) -> None:
        """Refuse what does not fit; waits for nothing.

        Args:
            chain: Of the job.
            job: A picture's.
            device_id: Where it would be done.
            total: Bytes of main memory in all.

        Raises:
            ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY, with `needed_bytes`
                and `total_bytes`.
        """
        picture = job.picture
        size = (picture.width, picture.height)
        needed = chain_bytes(chain.steps, size, job.output.format, alpha=picture.alpha)
        reports = self._devices.selected(DeviceChoice((device_id,)))
        device = reports[0].device if reports else None
        if device is not None:
            own = _of_networks(chain, size, job, device)
            if device.traits.in_main_memory:
                needed += own
            else:
                there = device.total_memory.value
                _check(own, there, Reason.DEVICE_OUT_OF_MEMORY, "of the device's memory")
        _check(needed, total, Reason.HOST_OUT_OF_MEMORY, "of main memory")


def _of_networks(
    chain: PreparedChain, size: tuple[int, int], job: ChainJob, device: Device
) -> int:
    exact = job.exact or device.traits.full_numbers
    models = {model.model_id: model for model in chain.models}
    return network_bytes(chain.steps, size, models, _FULL if exact else _HALF)


def _check(needed: int, total: int | None, reason: Reason, what: str) -> None:
    if total is None or needed <= total:
        return
    raise ResourceExhausted(
        f"The steps need {needed} bytes {what}, and there are {total} in all; use a smaller "
        "picture, fewer pixels or another device.",
        reason=reason,
        metadata={"needed_bytes": str(needed), "total_bytes": str(total)},
    )
