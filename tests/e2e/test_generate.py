"""One real picture after another through the public contract."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from deviceops.v1 import (
    artifact_pb2,
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
from tests.running import Client, RunningServer, small_request

NAN = float("nan")
TERMINAL = {"completed", "failed", "cancelled"}
PASSING = {"heartbeat", "preview", "image_chunk", "queue_moved"}


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with server.client() as connected:
        yield connected


def kinds(events: list[event_pb2.SessionEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def entries(events: list[event_pb2.SessionEvent]) -> list[int]:
    """Numbers of the log entries among the events."""
    return [event.sequence for event in events if event.WhichOneof("event") not in PASSING]


def pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


async def test_the_stream_tells_the_whole_story_in_order(client: Client) -> None:
    events, files = await client.draw(small_request(steps=5))

    names = kinds(events)
    accepted = events[0].accepted
    assert names[0] == "accepted"
    assert list(accepted.seeds) == [7]
    assert accepted.steps == 5
    assert accepted.placement.device_id == "cpu:0"
    seen = [event.phase_started.phase for event in events if event.HasField("phase_started")]
    assert set(seen) <= set(accepted.expected_phases)
    assert seen == [phase for phase in accepted.expected_phases if phase in seen]
    steps = [event.step_finished for event in events if event.HasField("step_finished")]
    assert [(step.step, step.steps) for step in steps] == [(k, 5) for k in range(1, 6)]
    assert [name for name in names if name in TERMINAL] == ["completed"]
    assert names[-1] == "completed"

    assert entries(events) == list(range(1, len(entries(events)) + 1))
    result = events[-1].completed.images[0]
    assert hashlib.sha256(files[0]).hexdigest() == result.artifact_id
    assert (result.width, result.height, result.size_bytes) == (256, 256, len(files[0]))
    timings = events[-1].completed.timings
    assert timings.denoise.ToTimedelta() <= timings.total.ToTimedelta()


@pytest.mark.demonstration
async def test_the_picture_shows_what_the_prompt_says(client: Client) -> None:
    _, files = await client.draw(small_request(steps=20, guidance={"scale": 6.0}))

    picture = pixels(files[0])
    corners = np.concatenate(
        [picture[y : y + 20, x : x + 20].reshape(-1, 3) for y in (0, 236) for x in (0, 236)]
    ).mean(axis=0)
    centre = picture[100:156, 100:156].reshape(-1, 3).mean(axis=0)
    assert corners[2] > corners[0] + 60, f"the background is not blue: {corners}"
    assert centre[0] > centre[2] + 60, f"the apple is not red: {centre}"


async def test_the_file_holds_its_own_parameters(client: Client) -> None:
    _, files = await client.draw(small_request(prompt="a robot\non a teal background"))

    image = Image.open(io.BytesIO(files[0]))
    image.load()
    stated = json.loads(image.info["deviceops"])
    assert stated["seed"] == 7
    assert "a robot" in image.info["parameters"]
    assert "Seed: 7" in image.info["parameters"]


async def test_each_picture_has_the_bits_of_a_request_of_its_own(client: Client) -> None:
    events, together = await client.draw(small_request(seed=40, image_count=2))
    _, alone = await client.draw(small_request(seed=41))

    assert list(events[0].accepted.seeds) == [40, 41]
    assert [image.seed for image in events[-1].completed.images] == [40, 41]
    assert np.array_equal(pixels(together[1]), pixels(alone[0]))
    assert not np.array_equal(pixels(together[0]), pixels(together[1]))


async def test_a_seed_is_chosen_and_told_when_none_is_given(client: Client) -> None:
    request = small_request(steps=1)
    request.settings.ClearField("seed")

    events, files = await client.draw(request)
    (seed,) = events[0].accepted.seeds
    _, again = await client.draw(small_request(steps=1, seed=seed))

    assert pixels(files[0]).tolist() == pixels(again[0]).tolist()


@pytest.mark.parametrize(
    ("format", "name"),
    [("IMAGE_FILE_FORMAT_JPEG", "JPEG"), ("IMAGE_FILE_FORMAT_WEBP", "WEBP")],
)
async def test_other_formats_come_out_as_such(client: Client, format: str, name: str) -> None:
    request = small_request(steps=1)
    request.settings.output.format = common_pb2.ImageFileFormat.Value(format)

    events, files = await client.draw(request)

    assert Image.open(io.BytesIO(files[0])).format == name
    assert events[-1].completed.images[0].format == request.settings.output.format


async def test_previews_are_small_pictures_of_what_comes(client: Client) -> None:
    request = small_request(steps=4)
    request.delivery.previews.every_steps = 2
    request.delivery.previews.max_edge_pixels = 64

    events, files = await client.draw(request)

    previews = [event.preview for event in events if event.HasField("preview")]
    assert previews
    assert {preview.step for preview in previews} <= {2, 4}
    last = Image.open(io.BytesIO(previews[-1].data))
    assert last.size == (64, 64) == (previews[-1].width, previews[-1].height)
    small = np.asarray(Image.open(io.BytesIO(files[0])).resize((64, 64))).astype(int)
    assert np.abs(np.asarray(last).astype(int) - small).mean() < 40


async def test_artifacts_can_be_read_again(client: Client) -> None:
    request = small_request(steps=1, seed=99)
    request.delivery.omit_image_data = True
    events, files = await client.draw(request)
    artifact_id = events[-1].completed.images[0].artifact_id

    assert files == {}
    downloaded = b""
    async for part in client.artifact.DownloadArtifact(
        artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id), metadata=client.metadata
    ):
        assert part.offset_bytes == len(downloaded)
        downloaded += part.data
    described = await client.artifact.GetArtifact(
        artifact_pb2.GetArtifactRequest(artifact_id=artifact_id), metadata=client.metadata
    )

    assert hashlib.sha256(downloaded).hexdigest() == artifact_id
    assert described.artifact.media_type == "image/png"
    assert described.artifact.session_id == events[0].session_id


async def test_the_same_request_id_is_the_same_session_however_often(client: Client) -> None:
    request = small_request()
    request.options.request_id = str(uuid.uuid4())

    runs = await asyncio.gather(*(client.draw(request) for _ in range(5)))

    assert len({events[0].session_id for events, _ in runs}) == 1
    assert len({files[0] for _, files in runs}) == 1
    assert sorted(events[0].accepted.existing for events, _ in runs) == [False] + [True] * 4

    request.settings.prompt = "something else"
    refusal = await refusal_of(client.draw(request))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "REQUEST_ID_REUSED"


async def test_every_broken_rule_is_named(client: Client) -> None:
    request = small_request(width=257, steps=0, guidance={"scale": -0.5}, clip_skip=9)
    request.options.request_id = "not a uuid"
    request.placement.device_id = "../cpu"

    refusal = await refusal_of(client.draw(request))

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == {
        "options.request_id",
        "settings.width",
        "settings.steps",
        "settings.guidance.scale",
        "settings.clip_skip",
        "placement.device_id",
    }
    verdict = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )
    assert not verdict.valid
    assert {violation.field for violation in verdict.violations} == set(refusal.fields)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        # The demo model's text encoders have four and five layers.
        ({"clip_skip": 4}, "settings.clip_skip"),
        (
            {"steps": 51, "scheduler": {"scheduler": sampling_pb2.SCHEDULER_LCM}},
            "settings.steps",
        ),
    ],
)
async def test_what_the_model_has_too_little_of_is_refused_before_any_session(
    client: Client, changes: dict[str, Any], field: str
) -> None:
    async def sessions() -> int:
        asked = processing_pb2.ListSessionsRequest(page_size=1)
        found = await client.processing.ListSessions(asked, metadata=client.metadata)
        return int(found.total_count)

    request, before = small_request(**changes), await sessions()

    refusal = await refusal_of(client.draw(request))

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == ("FIELD_OUT_OF_RANGE", [field])
    assert await sessions() == before
    verdict = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )
    assert not verdict.valid
    assert [(each.field, each.reason) for each in verdict.violations] == [
        (field, "FIELD_OUT_OF_RANGE")
    ]


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"model_id": "no-such-model"}, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        (
            {"model_id": "https://example.org/model"},
            grpc.StatusCode.PERMISSION_DENIED,
            "REMOTE_SOURCE_FORBIDDEN",
        ),
        ({"model_id": "../../etc"}, grpc.StatusCode.INVALID_ARGUMENT, "NAME_INVALID"),
        ({"seed": 2**32}, grpc.StatusCode.INVALID_ARGUMENT, "SEED_INVALID"),
        ({"prompt": "a\0b"}, grpc.StatusCode.INVALID_ARGUMENT, "TEXT_INVALID"),
        ({"prompt": "a" * 10_001}, grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG"),
        (
            {"guidance": {"scale": float("nan")}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "NON_FINITE_NUMBER",
        ),
        (
            {"precision": generation_pb2.Precision(cpu_offload=common_pb2.TOGGLE_ON)},
            grpc.StatusCode.UNIMPLEMENTED,
            "NOT_BUILT",
        ),
    ],
)
async def test_what_cannot_work_is_refused_with_its_reason(
    client: Client, change: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    prompt = change.pop("prompt", "a cat")

    refusal = await refusal_of(client.draw(small_request(prompt, **change)))

    assert (refusal.code, refusal.reason) == (code, reason)


async def test_a_missing_device_is_an_error_with_the_probes_explanation(
    client: Client,
) -> None:
    request = small_request()
    request.placement.device_id = "cuda:7"

    refusal = await refusal_of(client.draw(request))

    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.reason == "DEVICE_NOT_FOUND"
    assert "cuda" in refusal.message.lower()


async def test_a_part_that_is_not_built_names_its_field(client: Client) -> None:
    request = small_request()
    request.settings.regions.add().box.width = 0.5

    refusal = await refusal_of(client.draw(request))

    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    assert refusal.metadata["fields"] == "settings.regions"


async def test_a_value_that_is_not_built_is_told_by_validation_as_all_else(
    client: Client,
) -> None:
    scheduler = sampling_pb2.SchedulerSettings(scheduler=sampling_pb2.SCHEDULER_DPM_SOLVER_SDE)
    request = small_request(scheduler=scheduler)

    refusal = await refusal_of(client.draw(request))
    verdict = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_BUILT")
    assert not verdict.valid
    assert verdict.failure.status_code == refusal.code.value[0]
    assert verdict.failure.reason == errors_pb2.ERROR_REASON_NOT_BUILT
    assert dict(verdict.failure.metadata) == {"fields": "SCHEDULER_DPM_SOLVER_SDE"}


async def test_validation_tells_the_effective_settings(client: Client) -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.prompt = "a cat"

    verdict = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )

    effective = verdict.effective_settings
    assert verdict.valid
    assert (effective.width, effective.height, effective.steps) == (256, 256, 25)
    assert effective.guidance.scale == 7.5
    assert effective.model_id == "emoji-xl"
    assert effective.scheduler.scheduler == sampling_pb2.SCHEDULER_EULER_DISCRETE
    assert not effective.HasField("seed")


async def test_cancelling_by_name_ends_the_named_session_and_no_other(client: Client) -> None:
    long = client.generate(small_request(steps=150))
    events = []
    async with asyncio.timeout(60):
        async for response in long:
            events.append(response.event)
            if response.event.HasField("step_finished"):
                break
    waiting = asyncio.create_task(client.draw(small_request(steps=1)))

    async def control(session_id: str) -> processing_pb2.CancelSessionResponse:
        return await client.processing.CancelSession(
            processing_pb2.CancelSessionRequest(session_id=session_id),
            metadata=client.metadata,
        )

    nobody = await refusal_of(control(str(uuid.uuid4())))
    assert nobody.reason == "SESSION_NOT_FOUND"
    noted = await control(events[0].session_id)
    assert noted.session.state in (
        session_pb2.SESSION_STATE_CANCELLING,
        session_pb2.SESSION_STATE_CANCELLED,
    )

    async def rest() -> None:
        async for response in long:
            events.append(response.event)

    end = await refusal_of(rest())
    assert (end.code, end.reason) == (grpc.StatusCode.CANCELLED, "CANCELLED_BY_CLIENT")
    assert kinds(events)[-1] == "cancelled"
    steps = sum(event.HasField("step_finished") for event in events)
    assert steps < 150
    assert "image_decoded" not in kinds(events)
    again = await control(events[0].session_id)
    assert again.session.state == session_pb2.SESSION_STATE_CANCELLED
    others, files = await waiting
    assert kinds(others)[-1] == "completed"
    assert files[0]


async def test_dropping_the_stream_cancels_and_frees_the_device(client: Client) -> None:
    long = client.generate(small_request(steps=150))
    first = (await anext(aiter(long))).event
    long.cancel()

    async with asyncio.timeout(30):
        events, _ = await client.draw(small_request(steps=1))
    left = await client.processing.GetSession(
        processing_pb2.GetSessionRequest(session_id=first.session_id), metadata=client.metadata
    )

    assert kinds(events)[-1] == "completed"
    assert left.session.state == session_pb2.SESSION_STATE_CANCELLED
    assert left.terminal_event.cancelled.reason == (errors_pb2.ERROR_REASON_CLIENT_DISCONNECTED)


async def test_a_detached_session_goes_on_and_can_be_watched_from_where_it_was_lost(
    server: RunningServer, client: Client
) -> None:
    request = small_request(steps=6, seed=5)
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    seen = []
    lost = client.generate(request)
    async for response in lost:
        seen.append(response.event)
        if response.event.HasField("step_finished"):
            break
    lost.cancel()

    file = b""
    async with server.client() as other:
        watch = other.processing.WatchSession(
            processing_pb2.WatchSessionRequest(
                session_id=seen[0].session_id,
                from_sequence=seen[-1].sequence + 1,
            ),
            metadata=other.metadata,
        )
        async for part in watch:
            seen.append(part.event)
            if part.event.HasField("image_chunk"):
                file += part.event.image_chunk.data

    assert entries(seen) == list(range(1, len(entries(seen)) + 1))
    assert kinds(seen)[-1] == "completed"
    _, direct = await client.draw(small_request(steps=6, seed=5))
    assert file == direct[0]


async def test_a_session_past_its_timeout_fails_as_such(client: Client) -> None:
    request = small_request(steps=150)
    request.options.run_timeout.CopyFrom(Duration(nanos=700_000_000))

    refusal = await refusal_of(client.draw(request))

    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refusal.reason == "DEADLINE_EXPIRED"


async def test_sessions_are_listed_with_their_tags(client: Client) -> None:
    request = small_request(steps=1)
    request.options.tags.append("listed-by-tag")
    request.options.metadata["ticket"] = "42"
    events, _ = await client.draw(request)

    listed = await client.processing.ListSessions(
        processing_pb2.ListSessionsRequest(
            filter=processing_pb2.SessionFilter(tags=["listed-by-tag"]),
            view=session_pb2.SESSION_VIEW_FULL,
        ),
        metadata=client.metadata,
    )

    (session,) = listed.sessions
    assert session.session_id == events[0].session_id
    assert session.state == session_pb2.SESSION_STATE_COMPLETED
    assert session.progress == 1
    assert session.options.metadata["ticket"] == "42"
    assert session.model_id == "emoji-xl"
