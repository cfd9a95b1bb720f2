"""Many different pictures in one call, over a real channel to a real worker."""

from __future__ import annotations

import io
import math
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from PIL import Image
from safetensors.torch import load_file, save_file

from deviceops.v1 import (
    common_pb2,
    errors_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    processing_pb2,
    sampling_pb2,
    session_pb2,
)
from tests.e2e.errors import refusal_of
from tests.fakes.tiny_models import save_sdxl
from tests.running import Client, small_request

Settings = generation_pb2.GenerationSettings
NOISY = sampling_pb2.SchedulerSettings(
    scheduler=sampling_pb2.SCHEDULER_EULER_ANCESTRAL_DISCRETE
)


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """A small model that can be drawn with, and one whose numbers come out infinite."""
    for name in ("tiny", "loud"):
        save_sdxl(models / name)
    weights = models / "loud/unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"].fill_(float("inf"))
    save_file(tensors, weights)
    return models


def item(
    name: str, overlay: generation_pb2.GenerationSettings | None = None, *cleared: str
) -> inference_pb2.GenerationItem:
    return inference_pb2.GenerationItem(
        item_id=name,
        overlay=generation_pb2.GenerationOverlay(
            settings=overlay, cleared_fields=FieldMask(paths=cleared)
        ),
    )


def batch(*items: inference_pb2.GenerationItem) -> inference_pb2.GenerateBatchRequest:
    """Items over a small request of three steps with a negative prompt."""
    template = small_request(steps=3, negative_prompt="blurry", model_id="tiny").settings
    return inference_pb2.GenerateBatchRequest(template=template, items=items)


async def draw(
    client: Client, request: inference_pb2.GenerateBatchRequest
) -> tuple[list[event_pb2.SessionEvent], dict[int, bytes]]:
    """Every event, and each picture's file."""
    events, files = [], dict[int, bytes]()
    async for answer in client.inference.GenerateBatch(request, metadata=client.metadata):
        events.append(answer.event)
        if answer.event.WhichOneof("event") == "image_chunk":
            chunk = answer.event.image_chunk
            files[chunk.image_index] = files.get(chunk.image_index, b"") + chunk.data
    return events, files


async def test_each_item_has_the_bytes_of_a_call_of_its_own(client: Client) -> None:
    webp = common_pb2.OutputSettings(format=common_pb2.IMAGE_FILE_FORMAT_WEBP)
    events, files = await draw(
        client,
        batch(
            item("plain", Settings(prompt="a pear", output=webp), "negative_prompt"),
            item("as the template"),
            item("noisy", Settings(scheduler=NOISY, seeds=[3, 9], steps=4)),
        ),
    )
    alone = [
        small_request("a pear", steps=3, output=webp, model_id="tiny"),
        small_request(steps=3, negative_prompt="blurry", model_id="tiny"),
        small_request(
            steps=4,
            negative_prompt="blurry",
            seed=None,
            seeds=[3, 9],
            scheduler=NOISY,
            model_id="tiny",
        ),
    ]
    expected = []
    for request in alone:
        _, drawn = await client.draw(request)
        expected += [drawn[index] for index in sorted(drawn)]

    assert [files[index] for index in sorted(files)] == expected
    assert list(events[0].accepted.seeds) == [7, 7, 3, 9]
    ends = [event for event in events if event.HasField("item_finished")]
    assert [(each.item_id, each.item_finished.done_count) for each in ends] == [
        ("plain", 1),
        ("as the template", 2),
        ("noisy", 3),
    ]
    facts = ends[2].item_finished.generation
    assert facts.effective_settings.steps == 4
    assert list(facts.effective_settings.seeds) == [3, 9]
    assert [image.image_index for image in ends[2].item_finished.images] == [2, 3]
    completed = events[-1].completed
    assert [image.item_id for image in completed.images] == [
        "plain",
        "as the template",
        "noisy",
        "noisy",
    ]
    assert completed.generation_batch.completed_count == 3
    assert completed.generation_batch.failed_count == 0

    watched = client.processing.WatchSession(
        processing_pb2.WatchSessionRequest(
            session_id=events[0].session_id,
            delivery=session_pb2.DeliveryOptions(omit_image_data=True),
        ),
        metadata=client.metadata,
    )
    again = [answer.event async for answer in watched]
    passing = ("image_chunk", "heartbeat", "queue_moved", "preview")
    assert again == [each for each in events if each.WhichOneof("event") not in passing]


async def test_a_cancelled_batch_keeps_the_items_that_are_finished(client: Client) -> None:
    request = batch(item("short"), item("long", Settings(steps=150)), item("never"))
    call = client.inference.GenerateBatch(request, metadata=client.metadata)
    events: list[event_pb2.SessionEvent] = []

    async def follow() -> None:
        async for answer in call:
            events.append(answer.event)
            step = answer.event.step_finished
            if answer.event.item_id == "long" and step.step == 1:
                await client.processing.CancelSession(
                    processing_pb2.CancelSessionRequest(session_id=answer.event.session_id),
                    metadata=client.metadata,
                )

    refusal = await refusal_of(follow())
    assert refusal.code is grpc.StatusCode.CANCELLED
    assert [image.item_id for image in events[-1].cancelled.images] == ["short"]
    assert "never" not in {event.item_id for event in events}


async def test_rules_are_named_where_they_were_broken(client: Client) -> None:
    request = batch(item("fine"), item("odd", Settings(width=257)))
    request.template.steps = 0
    refusal = await refusal_of(draw(client, request))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_OUT_OF_RANGE",
    )
    assert refusal.fields == ["template.steps", "items[1].overlay.settings.width"]


async def test_a_matrix_draws_every_combination(client: Client) -> None:
    values = [
        [Settings(prompt="a pear"), Settings(prompt="an apple")],
        [Settings(guidance=sampling_pb2.GuidanceSettings(scale=scale)) for scale in (1.0, 5.0)],
    ]
    request = batch()
    request.template.steps = 1
    for axis in values:
        request.matrix.axes.add(
            values=[generation_pb2.GenerationOverlay(settings=each) for each in axis]
        )
    request.delivery.omit_image_data = True
    events, _ = await draw(client, request)
    images = events[-1].completed.images
    assert [image.item_id for image in images] == ["0-0", "0-1", "1-0", "1-1"]
    assert len({image.artifact_id for image in images}) == 4


async def test_items_share_passes_where_throughput_is_asked_for(client: Client) -> None:
    """Three items at different steps, one of them of two pictures."""
    items = [
        item("plain", Settings(prompt="a pear", steps=2)),
        item("as the template"),
        item("noisy", Settings(scheduler=NOISY, seeds=[3, 9])),
    ]
    _, exact = await draw(client, batch(*items))
    request = batch(*items)
    request.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    events, shared = await draw(client, request)

    for index in exact:
        assert psnr(exact[index], shared[index]) >= 40
    ends = [event.item_finished for event in events if event.HasField("item_finished")]
    assert [each.item_id for each in ends] == ["plain", "as the template", "noisy"]
    assert max(each.generation.computed.most_together for each in ends) >= 2
    images = events[-1].completed.images
    assert [(image.item_id, image.image_index, image.seed) for image in images] == [
        ("plain", 0, 7),
        ("as the template", 1, 7),
        ("noisy", 2, 3),
        ("noisy", 3, 9),
    ]


async def test_items_that_share_are_told_as_they_end(client: Client) -> None:
    """Eight are under way at once, and ten in all, of which one fails."""
    request = batch(
        item("odd", Settings(model_id="loud")),
        *(item(f"{k}", Settings(steps=1 + k // 4, seeds=[k])) for k in range(8)),
        item("last", Settings(steps=2)),
    )
    request.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    events, _ = await draw(client, request)
    ends = [(each.item_id, place) for place, each in enumerate(events) if ended(each)]
    steps = [place for place, each in enumerate(events) if each.HasField("step_finished")]
    places = dict(ends)
    assert len(places) == len(ends) == 10
    assert places["odd"] < places["0"] < places["last"]
    assert places["0"] < steps[-1], "the last one has not made its last step"
    for place, event in enumerate(events):
        if event.HasField("image_finished"):
            assert places[event.item_id] > place
    failed = next(each.item_finished for each in events if ended(each))
    assert failed.failure.reason == errors_pb2.ERROR_REASON_NON_FINITE_OUTPUT
    assert (failed.done_count, failed.failed_count) == (1, 1)


def ended(event: event_pb2.SessionEvent) -> bool:
    return event.HasField("item_finished")


def psnr(first: bytes, second: bytes) -> float:
    """How like two pictures are, in dB."""
    one, other = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)
        for data in (first, second)
    )
    error = float(((one - other) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


async def test_a_batch_that_shares_is_paused_and_goes_on(client: Client) -> None:
    long = Settings(steps=6)
    request = batch(item("one", long), item("two", long))
    request.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
    call = client.inference.GenerateBatch(request, metadata=client.metadata)
    kinds = []
    async for answer in call:
        event = answer.event
        kinds.append(event.WhichOneof("event"))
        if kinds.count("step_finished") == 3 and kinds[-1] == "step_finished":
            await client.processing.PauseSession(
                processing_pb2.PauseSessionRequest(session_id=event.session_id),
                metadata=client.metadata,
            )
        if kinds[-1] == "paused":
            await client.processing.ResumeSession(
                processing_pb2.ResumeSessionRequest(session_id=event.session_id),
                metadata=client.metadata,
            )
    assert kinds.count("paused") == 1
    assert event.completed.generation_batch.completed_count == 2
