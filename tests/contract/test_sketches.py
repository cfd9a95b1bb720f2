"""The sketches run: the messages fit together and the streams carry what clients need."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from deviceops.v1.common_pb2 import ERROR_REASON_CANCELLED_BY_CLIENT, IMAGE_FORMAT_WEBP
from deviceops.v1.inference_pb2 import GenerationSettings
from deviceops.v1.processing_pb2 import CONTROL_ACTION_CANCEL, ControlSessionRequest
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import (
    PHASE_DENOISING,
    SAFETY_ACTION_ALLOW,
    ImageChunk,
    ImageFinished,
    ImageResult,
    SessionEvent,
)
from tests.contract.sketches.batch import draw_all
from tests.contract.sketches.cancel import draw_and_cancel
from tests.contract.sketches.devices import usable_devices
from tests.contract.sketches.finish import upscale_and_check
from tests.contract.sketches.free_memory import free_to_target
from tests.contract.sketches.generate import generate, thirty_steps
from tests.contract.sketches.import_checkpoint import import_checkpoint
from tests.contract.sketches.load_model import load_model
from tests.contract.sketches.pictures import Pictures
from tests.contract.sketches.reattach import generate_through_losses
from tests.contract.sketches.server import Scripted
from tests.contract.sketches.workflow import run

OUTLINE = b"an encoded picture"


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest_asyncio.fixture
async def channel(scripted: Scripted) -> AsyncIterator[grpc.aio.Channel]:
    async with scripted.channel() as connected:
        yield connected


async def test_devices_are_listed_with_reasons(channel: grpc.aio.Channel) -> None:
    ready, others = await usable_devices(channel)
    assert [device.device_id for device in ready] == ["cpu:0"]
    assert others == {"cuda:0": "The driver is too old."}


async def test_a_model_loads_with_progress(channel: grpc.aio.Channel) -> None:
    seen: list[tuple[str, float]] = []
    loaded = await load_model(
        channel, "sdxl-base", lambda item, share: seen.append((item, share))
    )
    assert seen == [("unet", 0.5), ("unet", 1.0), ("vae", 0.5), ("vae", 1.0)]
    assert loaded.device_id == "cpu:0"


async def test_a_picture_arrives_whole(scripted: Scripted, channel: grpc.aio.Channel) -> None:
    steps: list[tuple[int, int]] = []
    pictures = await generate(
        channel, thirty_steps(OUTLINE), lambda step, all_: steps.append((step, all_))
    )
    assert steps == [(step, 30) for step in range(1, 31)]
    assert pictures.files == {0: scripted.inference.content}
    # What was asked arrived as it was written: doubles, presence and lists.
    settings = scripted.inference.requests[0].settings
    assert [lora.weight for lora in settings.loras] == [0.7, -0.3]
    assert settings.control_nets[0].conditioning_scale == 0.6
    assert not settings.control_nets[0].HasField("start")
    assert settings.refiner.switch_at == 0.8
    assert not settings.HasField("clip_skip")


async def test_a_cancelled_picture_says_where_it_stopped(
    scripted: Scripted, channel: grpc.aio.Channel
) -> None:
    scripted.inference.wait_at = 2  # accepted, phase, first step
    cancelled = await draw_and_cancel(channel, thirty_steps(OUTLINE))
    assert cancelled.reason == ERROR_REASON_CANCELLED_BY_CLIENT
    assert cancelled.phase == PHASE_DENOISING


async def test_a_cancel_names_what_it_cancels(
    scripted: Scripted, channel: grpc.aio.Channel
) -> None:
    wrong = ControlSessionRequest(session_id="another", action=CONTROL_ACTION_CANCEL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ProcessingServiceStub(channel).ControlSession(wrong)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert not scripted.inference.cancelled.is_set()


@pytest.mark.parametrize("lost_before", [1, 5, 37, 38, 39, 40])
async def test_a_lost_connection_costs_nothing(
    scripted: Scripted, channel: grpc.aio.Channel, lost_before: int
) -> None:
    """Lost after the first event, in mid-steps, and before, between and after the chunks."""
    scripted.inference.lose_at = lost_before
    pictures, completed = await generate_through_losses(channel, thirty_steps(OUTLINE))
    assert len(scripted.inference.requests) == 1
    assert len(scripted.processing.watched_from) == 1
    artifact = hashlib.sha256(scripted.inference.content).hexdigest()
    assert pictures.results[0].artifact_id == artifact
    assert completed.images[0].artifact_id == artifact
    assert pictures.files == {0: scripted.inference.content}


async def test_without_a_loss_nothing_is_watched(
    scripted: Scripted, channel: grpc.aio.Channel
) -> None:
    pictures, completed = await generate_through_losses(channel, thirty_steps(OUTLINE))
    assert scripted.processing.watched_from == []
    assert len(completed.images) == len(pictures.files) == 1


async def test_five_hundred_pictures_all_arrive_in_the_end(
    scripted: Scripted, channel: grpc.aio.Channel
) -> None:
    prompts = {f"item-{number}": f"a dog, number {number}" for number in range(500)}
    artifacts = await draw_all(channel, GenerationSettings(steps=20), prompts)
    assert artifacts == {
        key: hashlib.sha256(prompt.encode()).hexdigest() for key, prompt in prompts.items()
    }
    # Only what had failed ran again.
    assert {item.item_id for item in scripted.processing.batch.items} == {"item-7", "item-13"}


async def test_a_finished_picture_has_its_verdict(
    scripted: Scripted, channel: grpc.aio.Channel
) -> None:
    result = await upscale_and_check(channel, "0f" * 32)
    assert scripted.postprocessing.requests[0].image.artifact_id == "0f" * 32
    assert (result.width, result.format) == (4096, IMAGE_FORMAT_WEBP)
    assert result.safety.action == SAFETY_ACTION_ALLOW
    assert [score.category for score in result.safety.scores] == ["nsfw"]
    assert result.safety.policy_id == "gallery"


async def test_a_workflow_fans_out(channel: grpc.aio.Channel) -> None:
    runs, results = await run(channel, "a robot")
    assert runs == {"draw": {0}, "enlarge": {0, 1, 2, 3}}
    assert [result.image_index for result in results] == [0, 1, 2, 3]


async def test_memory_is_freed_to_a_target(channel: grpc.aio.Channel) -> None:
    report = await free_to_target(channel, "cuda:0", 8 * 2**30)
    assert report.target_reached
    assert report.free_after.value_bytes == 8 * 2**30
    assert [(c.model_id, c.component) for c in report.evicted] == [("old", "unet")]


@pytest.mark.parametrize("received", [0, 1048576, 2500000])
async def test_a_checkpoint_is_sent_from_where_it_broke_off(
    scripted: Scripted, channel: grpc.aio.Channel, received: int
) -> None:
    content = bytes(range(256)) * 12_000
    scripted.models.received += content[:received]
    model = await import_checkpoint(channel, "new-model", io.BytesIO(content))
    assert (model.model_id, model.size_bytes) == ("new-model", len(content))
    assert scripted.models.received == content
    assert scripted.models.announced.resume is (received > 0)


def test_a_picture_that_changed_on_its_way_is_refused() -> None:
    pictures = Pictures()
    pictures.add(SessionEvent(image_chunk=ImageChunk(data=b"other", total_bytes=5)))
    finished = ImageResult(artifact_id=hashlib.sha256(b"right").hexdigest())
    with pytest.raises(ValueError, match="did not arrive"):
        pictures.add(SessionEvent(image_finished=ImageFinished(image=finished)))
