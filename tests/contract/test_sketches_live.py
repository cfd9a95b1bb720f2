"""Sketches over a real channel to a real server with a real worker: what they show works."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from deviceops.v1.artifact_pb2 import (
    ArtifactUpload,
    DeleteArtifactRequest,
    UploadArtifactRequest,
)
from deviceops.v1.artifact_pb2_grpc import ArtifactServiceStub
from deviceops.v1.common_pb2 import IMAGE_FILE_FORMAT_WEBP
from deviceops.v1.device_info_pb2 import (
    DEVICE_STATE_READY,
    PLACEMENT_REASON_DEFAULT,
    PLACEMENT_REASON_SHORTEST_WAIT,
)
from deviceops.v1.device_pb2 import WatchDevicesRequest
from deviceops.v1.device_pb2_grpc import DeviceServiceStub
from deviceops.v1.errors_pb2 import ERROR_REASON_CANCELLED_BY_CLIENT
from deviceops.v1.inference_pb2 import SIGNATURE_STATE_UNSPECIFIED, GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub
from deviceops.v1.postprocessing_pb2_grpc import PostprocessingServiceStub
from deviceops.v1.processing_pb2 import (
    SESSION_CHANGE_KIND_ADDED,
    SESSION_CHANGE_KIND_ENDED,
    SESSION_CHANGE_KIND_SNAPSHOT_END,
    CancelSessionRequest,
)
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.safety_pb2 import CreatePolicyRequest, DeletePolicyRequest, SafetyPolicy
from deviceops.v1.session_pb2 import (
    PHASE_DENOISING,
)
from deviceops.v1.upload_pb2 import UploadHeader
from tests.contract.sketches.anywhere import draw_on_a_card
from tests.contract.sketches.batch import draw_all
from tests.contract.sketches.cancel import draw_and_cancel
from tests.contract.sketches.connect import connect
from tests.contract.sketches.devices import usable_devices
from tests.contract.sketches.finish import upscale_and_check
from tests.contract.sketches.follow import Sessions
from tests.contract.sketches.free_memory import free_to_target
from tests.contract.sketches.generate import generate
from tests.contract.sketches.load_model import load_model
from tests.contract.sketches.newer import draw_with_a_later_field
from tests.contract.sketches.overlay import draw_items
from tests.contract.sketches.reattach import generate_through_losses
from tests.contract.sketches.upload import CHUNK_BYTES, received_bytes, upload
from tests.contract.sketches.verify import verify
from tests.contract.sketches.workflow import run
from tests.e2e.errors import refusal_of
from tests.fakes.cards import computing_card
from tests.running import RunningServer, small_request
from tests.serving_cards import serving_cards

CPU, MODEL = "cpu:0", "emoji-xl"
CARDS = {"cuda:0", "cuda:1"}
PATIENCE_SECONDS = 60.0


@pytest.fixture
async def channel(server: RunningServer) -> AsyncIterator[grpc.aio.Channel]:
    async with connect(server.address, server.token) as connected:
        await _until_ready(connected, CPU)
        yield connected


async def _until_ready(channel: grpc.aio.Channel, device_id: str) -> None:
    watch = DeviceServiceStub(channel).WatchDevices(WatchDevicesRequest(device_id=device_id))
    async for change in watch:
        if change.device.state == DEVICE_STATE_READY:
            break
    watch.cancel()


async def test_devices_are_listed_with_reasons(channel: grpc.aio.Channel) -> None:
    ready, others = await usable_devices(channel)
    assert CPU in {device.device_id for device in ready}
    assert all(others.values())


async def test_a_model_loads_with_progress(channel: grpc.aio.Channel) -> None:
    seen: list[tuple[str, float]] = []
    loaded = await load_model(channel, MODEL, lambda item, share: seen.append((item, share)))
    assert (loaded.model_id, loaded.device_id) == (MODEL, CPU)
    # Nothing is read again that lies there already.
    assert not seen or seen[-1][1] == 1
    assert [share for _, share in seen] == sorted(share for _, share in seen)


async def test_a_picture_arrives_whole(channel: grpc.aio.Channel) -> None:
    steps: list[int] = []
    pictures = await generate(
        channel, small_request(steps=3), lambda step, _: steps.append(step)
    )
    assert steps == [1, 2, 3]
    assert pictures.files[0].startswith(b"\x89PNG")


async def test_a_batch_that_names_what_is_not_there_says_where(
    channel: grpc.aio.Channel,
) -> None:
    refused = await refusal_of(draw_items(channel))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert refused.metadata["field"] == "template.loras[0].model_id"


async def test_a_cancelled_picture_says_where_it_stopped(channel: grpc.aio.Channel) -> None:
    cancelled = await draw_and_cancel(channel, small_request(steps=100))
    assert cancelled.reason == ERROR_REASON_CANCELLED_BY_CLIENT
    assert cancelled.phase == PHASE_DENOISING
    assert (cancelled.reason_text, cancelled.cancelled_by) == ("not wanted", "default")


async def test_a_cancel_names_what_it_cancels(channel: grpc.aio.Channel) -> None:
    wrong = CancelSessionRequest(session_id="another")
    refused = await refusal_of(ProcessingServiceStub(channel).CancelSession(wrong))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.NOT_FOUND,
        "SESSION_NOT_FOUND",
    )


async def test_without_a_loss_nothing_is_lost(channel: grpc.aio.Channel) -> None:
    pictures, completed = await generate_through_losses(channel, small_request(steps=2))
    assert completed.images[0].artifact_id == pictures.results[0].artifact_id
    assert completed.images[0].size_bytes == len(pictures.files[0])


async def test_a_pictures_marks_are_read(channel: grpc.aio.Channel) -> None:
    pictures = await generate(channel, small_request(steps=1), lambda step, _: None)
    marks = await verify(channel, pictures.results[0].artifact_id)
    assert marks.signature == SIGNATURE_STATE_UNSPECIFIED
    assert not marks.watermark_found
    assert "Steps: 1" in marks.parameters


async def test_memory_is_freed_to_a_target(channel: grpc.aio.Channel) -> None:
    report = await free_to_target(channel, CPU, 1)
    assert report.target_reached
    assert report.free_after.value_bytes >= 1


async def test_an_upload_goes_on_where_it_broke(channel: grpc.aio.Channel) -> None:
    content, upload_id = os.urandom(3 * CHUNK_BYTES + 17), str(uuid4())
    header = UploadHeader(upload_id=upload_id, size_bytes=len(content))
    half = iter(
        [
            UploadArtifactRequest(header=ArtifactUpload(upload=header)),
            UploadArtifactRequest(data=content[:CHUNK_BYTES]),
        ]
    )
    artifacts = ArtifactServiceStub(channel)
    assert (await refusal_of(artifacts.UploadArtifact(half))).reason == "UPLOAD_INCOMPLETE"
    assert await received_bytes(channel, upload_id) == CHUNK_BYTES
    artifact = await upload(channel, upload_id, io.BytesIO(content))
    assert artifact.artifact_id == hashlib.sha256(content).hexdigest()
    assert await received_bytes(channel, upload_id) == 0
    await artifacts.DeleteArtifact(DeleteArtifactRequest(artifact_id=artifact.artifact_id))


async def test_everything_is_followed_over_a_restart(server: RunningServer) -> None:
    """Of the orchestrator, which kept a number; and of one that kept a number of nobody."""
    tag = str(uuid4())
    request = small_request(steps=1)
    request.options.tags.append(tag)
    async with connect(server.address, server.token) as channel:
        known = Sessions(tag)
        changes = known.follow(channel)
        assert (await _next(changes))[0] == SESSION_CHANGE_KIND_SNAPSHOT_END
        first = await _drawn(channel, request)
        seen = [await _next(changes)]
        while seen[-1] != (SESSION_CHANGE_KIND_ENDED, first):
            seen.append(await _next(changes))
        assert seen[0] == (SESSION_CHANGE_KIND_ADDED, first)
        await changes.aclose()
        kept = known.revision
        # Nobody watches while a second one comes and goes.
        second = await _drawn(channel, request)

        again = Sessions(tag, kept)
        changes = again.follow(channel)
        missed = [await _next(changes)]
        while missed[-1] != (SESSION_CHANGE_KIND_ENDED, second):
            missed.append(await _next(changes))
        await changes.aclose()
        assert missed[0] == (SESSION_CHANGE_KIND_ADDED, second)
        assert {session_id for _, session_id in missed} == {second}

        lost = Sessions(tag, 2**60)
        changes = lost.follow(channel)
        while (await _next(changes))[0] != SESSION_CHANGE_KIND_SNAPSHOT_END:
            pass
        await changes.aclose()
        assert set(lost.known) == {first, second}


async def _next(changes: AsyncIterator[tuple[int, str]]) -> tuple[int, str]:
    return await asyncio.wait_for(anext(changes), PATIENCE_SECONDS)


async def _drawn(channel: grpc.aio.Channel, request: GenerateRequest) -> str:
    session_id = ""
    async for response in InferenceServiceStub(channel).Generate(request):
        session_id = response.event.session_id
    return session_id


@pytest.mark.demonstration
async def test_a_job_goes_to_whichever_card_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [computing_card(0), computing_card(1)]
    async with (
        asyncio.timeout(600),
        serving_cards(tmp_path, monkeypatch, cards) as served,
        connect(served.address, served.token) as channel,
    ):
        for card in CARDS:
            await _until_ready(channel, card)
        jobs = await asyncio.gather(
            *(draw_on_a_card(channel, small_request(steps=2)) for _ in CARDS)
        )
        assert {placed.device_id for placed, _ in jobs} == CARDS
        assert all(placed == ran for placed, ran in jobs)
        assert all(set(placed.candidate_device_ids) == CARDS for placed, _ in jobs)
        reasons = {placed.reason for placed, _ in jobs}
        assert reasons == {PLACEMENT_REASON_DEFAULT, PLACEMENT_REASON_SHORTEST_WAIT}


async def test_a_newer_clients_field_is_refused(channel: grpc.aio.Channel) -> None:
    refused = await refusal_of(draw_with_a_later_field(channel, small_request()))
    assert (refused.code, refused.reason, refused.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNKNOWN_FIELD",
        ["settings"],
    )
    assert "500 of GenerationSettings" in refused.message


async def test_a_batch_draws_every_prompt(channel: grpc.aio.Channel) -> None:
    template = small_request(steps=2).settings
    drawn = await draw_all(channel, template, {"one": "a dog", "two": "a cat"})
    assert set(drawn) == {"one", "two"}
    assert len(set(drawn.values())) == 2


async def test_a_picture_is_enlarged_and_judged(
    channel: grpc.aio.Channel, server: RunningServer
) -> None:
    drawn = await generate(channel, small_request(steps=1), lambda *_: None)
    policy = SafetyPolicy(policy_id="gallery")
    service = PostprocessingServiceStub(channel)
    await service.CreatePolicy(CreatePolicyRequest(policy=policy))
    try:
        result = await upscale_and_check(channel, drawn.results[0].artifact_id)
    finally:
        await service.DeletePolicy(DeletePolicyRequest(policy_id="gallery"))
    assert (result.width, result.height, result.format) == (1024, 1024, IMAGE_FILE_FORMAT_WEBP)
    assert (result.safety.policy_id, result.safety.policy_version) == ("gallery", 1)
    assert not result.HasField("seed")


async def test_a_workflow_draws_and_enlarges_each(channel: grpc.aio.Channel) -> None:
    runs, results = await run(channel, "a robot", steps=2)
    assert runs == {"draw": {0}, "enlarge": {0, 1, 2, 3}}
    assert [(each.width, each.height) for each in results] == [(512, 512)] * 4
