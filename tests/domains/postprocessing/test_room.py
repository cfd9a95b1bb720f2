"""A chain that no memory of its device suffices for is refused before it is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.chain.core.preparing import PreparedChain
from domains.chain.jobs import ChainJob
from domains.chain.jobs.room import chain_bytes, network_bytes
from domains.chain.types import SharpenStep, UpscalerModel, UpscaleStep
from domains.device.types import Device, DeviceChoice, DeviceKind, DeviceReport, DeviceState
from domains.errors import Reason, ResourceExhausted
from domains.picture.types import PreparedPicture
from domains.postprocessing.core.room import Room
from domains.values import ByteFigure, ImageFileFormat, ModelPlace, OutputSettings
from tests.domains.postprocessing.test_servicer import upscaler

MODEL = upscaler("up", 4)
SIZE = (4096, 4096)


class Devices:
    """One device."""

    def __init__(self, kind: DeviceKind, total: int) -> None:
        self.device = Device("it", kind, "", "", "", ByteFigure.measured(total, "test"))

    def selected(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        assert choice.device_ids == ("it",)
        return (DeviceReport(self.device, DeviceState.READY),)


def chain_of(factor: float) -> tuple[PreparedChain, ChainJob]:
    place = ModelPlace.of(Path("/models/up"))
    step = UpscaleStep(factor=factor, model=UpscalerModel("up", place, 4))
    chain = PreparedChain((SharpenStep(), step), (MODEL,))
    picture = PreparedPicture(Path("/picture"), *SIZE, "a" * 64, alpha=True)
    wide, high = step.size_after(SIZE)
    return chain, ChainJob(picture, chain.steps, wide, high, OutputSettings())


async def refused(
    kind: DeviceKind, chain: PreparedChain, job: ChainJob, host: int | None, own: int
) -> ResourceExhausted | None:
    async def main_memory() -> int | None:
        return host

    room = Room(main_memory, Devices(kind, own))
    try:
        room.check(chain, job, "it", await room.total())
    except ResourceExhausted as error:
        return error
    return None


async def test_main_memory_has_to_suffice_for_pictures_steps_and_file() -> None:
    """On the processor for the network as well: there the memory is one."""
    chain, job = chain_of(1.5)
    pictures = chain_bytes(chain.steps, SIZE, ImageFileFormat.PNG, alpha=True)
    network = network_bytes(chain.steps, SIZE, {"up": MODEL}, 4)
    assert network > 4096 * 64 * 16 * 24, "a row of the least tiles"
    for kind, least in ((DeviceKind.CPU, pictures + network), (DeviceKind.CUDA, pictures)):
        assert await refused(kind, chain, job, least, 1 << 40) is None
        error = await refused(kind, chain, job, least - 1, 1 << 40)
        assert error is not None
        assert error.reason is Reason.HOST_OUT_OF_MEMORY
        assert error.metadata == {
            "needed_bytes": str(least),
            "total_bytes": str(least - 1),
        }


async def test_a_devices_own_memory_has_to_suffice_for_the_smallest_tiles() -> None:
    chain, job = chain_of(2.0)
    least = network_bytes(chain.steps, SIZE, {"up": MODEL}, 2)
    assert await refused(DeviceKind.CUDA, chain, job, None, least) is None
    error = await refused(DeviceKind.CUDA, chain, job, None, least - 1)
    assert error is not None
    assert error.reason is Reason.DEVICE_OUT_OF_MEMORY
    assert error.metadata["total_bytes"] == str(least - 1)


async def test_of_memory_that_is_not_known_nothing_is_said() -> None:
    chain, job = chain_of(2.0)
    assert await refused(DeviceKind.CPU, chain, job, None, 1) is None


@pytest.mark.parametrize("factor", [1.1, 2.0, 8.0])
def test_what_a_network_makes_too_large_is_never_there_as_a_whole(factor: float) -> None:
    """However far beyond what is asked for it goes."""
    size = (512, 512)
    step = UpscaleStep(
        factor=factor, model=UpscalerModel("up", ModelPlace.of(Path("/models/up")), 8)
    )
    said = chain_bytes((step,), size, ImageFileFormat.JPEG, alpha=False)
    wanted = step.size_after(size)
    assert said < 3 * (8 * 512) * wanted[0] + 20 * wanted[0] * wanted[1] + 4 * 512 * 512
