"""Sketches of what is not built yet: the messages fit together, and streams carry what clients
need. They run over a real channel to a scripted server; those of what works are in
test_sketches_live.py."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from deviceops.v1.common_pb2 import IMAGE_FILE_FORMAT_WEBP
from deviceops.v1.event_pb2 import ImageChunk, ImageFinished, SessionEvent
from deviceops.v1.finishing_pb2 import SAFETY_ACTION_ALLOW
from deviceops.v1.generation_pb2 import GenerationSettings
from deviceops.v1.session_pb2 import ImageResult
from tests.contract.sketches.batch import draw_all
from tests.contract.sketches.finish import upscale_and_check
from tests.contract.sketches.generate import generate, thirty_steps
from tests.contract.sketches.import_checkpoint import import_checkpoint
from tests.contract.sketches.overlay import draw_items
from tests.contract.sketches.pictures import Pictures
from tests.contract.sketches.reattach import generate_through_losses
from tests.contract.sketches.server import Scripted
from tests.contract.sketches.workflow import run

OUTLINE = b"an encoded picture"


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
async def channel(scripted: Scripted) -> AsyncIterator[grpc.aio.Channel]:
    async with scripted.channel() as connected:
        yield connected


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
    assert settings.control_nets[0].preprocessor.WhichOneof("preprocessor") == "canny"
    assert not settings.control_nets[0].HasField("start")
    assert settings.sdxl.refiner.switch_at == 0.8
    assert not settings.HasField("clip_skip")


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


async def test_an_item_can_be_without_what_its_template_has(channel: grpc.aio.Channel) -> None:
    pictures = await draw_items(channel)
    plain = GenerationSettings(prompt="a dog").SerializeToString()
    assert pictures["plain"].artifact_id == hashlib.sha256(plain).hexdigest()
    assert pictures["both"].artifact_id != pictures["plain"].artifact_id
    assert [pictures[item].image_index for item in ("both", "plain")] == [0, 1]


async def test_a_finished_picture_has_its_verdict(
    scripted: Scripted, channel: grpc.aio.Channel
) -> None:
    result = await upscale_and_check(channel, "0f" * 32)
    assert scripted.postprocessing.requests[0].image.artifact_id == "0f" * 32
    assert scripted.postprocessing.requests[0].delivery.omit_image_data
    assert (result.width, result.format) == (4096, IMAGE_FILE_FORMAT_WEBP)
    assert result.safety.action == SAFETY_ACTION_ALLOW
    assert [score.category for score in result.safety.scores] == ["nsfw"]
    assert result.safety.policy_id == "gallery"


async def test_a_workflow_fans_out(channel: grpc.aio.Channel) -> None:
    runs, results = await run(channel, "a robot")
    assert runs == {"draw": {0}, "enlarge": {0, 1, 2, 3}}
    assert [result.image_index for result in results] == [0, 1, 2, 3]


@pytest.mark.parametrize("received", [0, 1048576, 2500000])
async def test_a_checkpoint_is_sent_from_where_it_broke_off(
    scripted: Scripted, channel: grpc.aio.Channel, received: int
) -> None:
    content = bytes(range(256)) * 12_000
    scripted.artifacts.received += content[:received]
    model = await import_checkpoint(channel, "new-model", str(uuid4()), io.BytesIO(content))
    assert (model.model_id, model.size_bytes) == ("new-model", len(content))
    assert scripted.artifacts.received == content
    assert scripted.artifacts.announced.offset_bytes == received


def test_a_picture_that_changed_on_its_way_is_refused() -> None:
    pictures = Pictures()
    pictures.add(SessionEvent(image_chunk=ImageChunk(data=b"other", total_bytes=5)))
    finished = ImageResult(artifact_id=hashlib.sha256(b"right").hexdigest())
    with pytest.raises(ValueError, match="did not arrive"):
        pictures.add(SessionEvent(image_finished=ImageFinished(image=finished)))
