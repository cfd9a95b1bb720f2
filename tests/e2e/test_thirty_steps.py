"""Pictures of thirty steps over the public contract: by every sampler with its defaults, and
the sketch of a client who uses everything at once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from PIL import Image

from deviceops.v1 import inference_pb2, sampling_pb2
from tests.contract.sketches.generate import thirty_steps
from tests.running import Client, RunningServer, small_request

STEPS = 30
NOT_BUILT = {"SCHEDULER_UNSPECIFIED", "SCHEDULER_DPM_SOLVER_SDE"}
SCHEDULERS = sorted(set(sampling_pb2.Scheduler.keys()) - NOT_BUILT)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with asyncio.timeout(280), server.client() as connected:
        for _ in range(500):
            if await _ready(connected):
                break
            await asyncio.sleep(0.2)
        yield connected


async def _ready(client: Client) -> bool:
    """Whether it has found its devices; until then it asks to be asked again."""
    try:
        await capabilities(client)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


async def capabilities(client: Client) -> inference_pb2.GetCapabilitiesResponse:
    """What the default model can do on the default device."""
    request = inference_pb2.GetCapabilitiesRequest()
    return await client.inference.GetCapabilities(request, metadata=client.metadata)


async def drawn(client: Client, request: inference_pb2.GenerateRequest) -> Any:
    """The picture's pixels, once its stream has told of every step."""
    events, files = await client.draw(request)
    steps = [event.step_finished.step for event in events if event.HasField("step_finished")]
    assert steps == list(range(1, STEPS + 1))
    (file,) = files.values()
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float64)


def check_is_a_picture(pixels: Any) -> None:
    """It is neither of one colour nor noise, which is what samplers that do not work leave."""
    assert pixels.shape == (256, 256, 3)
    assert pixels.std() > 20
    between_neighbours = np.abs(np.diff(pixels, axis=1)).mean()
    assert 0.5 < between_neighbours < 0.5 * pixels.std()


async def test_every_sampler_that_is_offered_is_looked_at(client: Client) -> None:
    found = await capabilities(client)
    offered = {each.scheduler for each in found.schedulers}
    assert offered == set(map(sampling_pb2.Scheduler.Value, SCHEDULERS))


@pytest.mark.parametrize("name", SCHEDULERS)
async def test_a_sampler_draws_with_its_defaults(client: Client, name: str) -> None:
    scheduler = sampling_pb2.SchedulerSettings(scheduler=sampling_pb2.Scheduler.Value(name))
    request = small_request(steps=STEPS, scheduler=scheduler)

    check_is_a_picture(await drawn(client, request))


async def test_the_sketch_draws_with_everything_at_once(client: Client) -> None:
    """Two LoRAs, a ControlNet with its preprocessor and a refiner: with the bundled models, in
    their size."""
    outline = io.BytesIO()
    corner = np.zeros((256, 256), np.uint8)
    corner[64:192, 64:192] = 255
    Image.fromarray(corner).save(outline, "png")
    request = thirty_steps(outline.getvalue())
    settings = request.settings
    settings.width = settings.height = 256
    settings.model_id, settings.sdxl.refiner.model_id = "emoji-xl", "emoji-refiner"
    settings.control_nets[0].model_id = "emoji-canny"
    settings.loras[0].model_id, settings.loras[1].model_id = "line-art", "pixel-art"

    check_is_a_picture(await drawn(client, request))
