"""Chains that are cancelled, paused, or lose their worker or server in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from deviceops.v1 import device_pb2, event_pb2, processing_pb2, session_pb2
from deviceops.v1 import postprocessing_pb2 as pb
from tests.domains.chain.pictures import noise
from tests.domains.picture.drawn import saved
from tests.e2e.test_restarts import get, kill, watch
from tests.running import Client, RunningServer, start_server

COMPLETED = session_pb2.SESSION_STATE_COMPLETED
PAUSED = session_pb2.SESSION_STATE_PAUSED
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose worker may be killed."""
    with start_server(tmp_path_factory.mktemp("data")) as server:
        yield server


def slow(*names: str) -> pb.ProcessImagesRequest:
    """Sixteen slow steps for each picture, at least a second of work."""
    request = pb.ProcessImagesRequest(options={"request_id": str(uuid.uuid4())})
    for _ in range(16):
        request.steps.add().denoise.strength = 1.0
    picture = saved(noise(512, 512).image())
    for name in names:
        request.items.add(item_id=name).image.inline = picture
    return request


def ends(events: list[event_pb2.SessionEvent]) -> dict[str, event_pb2.ItemFinished]:
    """What each picture came to."""
    return {
        event.item_id: event.item_finished
        for event in events
        if event.HasField("item_finished") and event.item_finished.item_id == event.item_id
    }


async def until_first_ends(
    stream: AsyncIterator[pb.ProcessImagesResponse],
) -> list[event_pb2.SessionEvent]:
    events = []
    async for answer in stream:
        events.append(answer.event)
        if ends(events):
            break
    return events


async def finished(client: Client, session_id: str) -> event_pb2.SessionEvent:
    return (await watch(client, session_id, 1))[-1]


async def test_a_cancel_takes_effect_within_a_step(client: Client) -> None:
    asked = slow("only")
    request = pb.ProcessImageRequest(steps=asked.steps, image=asked.items[0].image)
    call = client.postprocessing.ProcessImage(request, metadata=client.metadata)
    events: list[event_pb2.SessionEvent] = []

    async def follow() -> None:
        async for answer in call:
            events.append(answer.event)
            if sum(event.HasField("item_finished") for event in events) == 1:
                await client.processing.CancelSession(
                    processing_pb2.CancelSessionRequest(session_id=events[0].session_id),
                    metadata=client.metadata,
                )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follow()
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    steps = [e.item_finished for e in events if e.item_finished.item_id == "step"]
    assert len(steps) < 16
    session_id = events[0].session_id
    last = await finished(client, session_id)
    assert last.HasField("cancelled")
    assert not last.cancelled.images


async def test_a_killed_worker_costs_a_picture_nothing_but_time(client: Client) -> None:
    request = slow("a", "b")
    del request.steps[8:]
    stream = client.postprocessing.ProcessImages(request, metadata=client.metadata)
    events: list[event_pb2.SessionEvent] = []
    killed = 0
    async for answer in stream:
        events.append(answer.event)
        if not killed and answer.event.item_finished.item_id == "tile":
            status = await client.device.GetDeviceStatus(
                device_pb2.GetDeviceStatusRequest(device_id="cpu:0"), metadata=client.metadata
            )
            killed = status.worker.process_id
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert [image.item_id for image in events[-1].completed.images] == ["a", "b"]
    children = processing_pb2.ListSessionsRequest()
    children.filter.parent_session_id = events[0].session_id
    found = await client.processing.ListSessions(children, metadata=client.metadata)
    assert sorted(each.retry_count for each in found.sessions) == [0, 1]
    assert {each.method for each in found.sessions} == {"PostprocessingService.ProcessImages"}


@pytest.mark.demonstration
async def test_pictures_outlive_a_pause_and_two_servers(tmp_path: Path) -> None:
    request = slow(*NAMES)
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    with start_server(tmp_path / "data") as running:
        async with running.client() as client:
            stream = client.postprocessing.ProcessImages(request, metadata=client.metadata)
            events = await until_first_ends(stream)
            session_id, before = events[0].session_id, ends(events)
            kill(running)

    with start_server(tmp_path / "data") as running:
        async with running.client() as client:
            stream = client.postprocessing.ProcessImages(request, metadata=client.metadata)
            first = (await anext(aiter(stream))).event
            assert (first.session_id, first.accepted.existing) == (session_id, True)
            await client.processing.PauseSession(
                processing_pb2.PauseSessionRequest(session_id=session_id),
                metadata=client.metadata,
            )
            async with asyncio.timeout(30):
                while (await get(client, session_id)).session.state != PAUSED:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            kill(running)

    with start_server(tmp_path / "data") as running:
        async with running.client() as client:
            assert (await get(client, session_id)).session.state == PAUSED
            await client.processing.ResumeSession(
                processing_pb2.ResumeSessionRequest(session_id=session_id),
                metadata=client.metadata,
            )
            last = await finished(client, session_id)
            assert last.HasField("completed"), last
            assert [image.item_id for image in last.completed.images] == [*NAMES]
            assert [image.image_index for image in last.completed.images] == [*range(5)]
            (told,) = before
            child = await get(client, before[told].session_id)
            assert child.session.state == COMPLETED
            kept = next(each for each in last.completed.images if each.item_id == told)
            assert kept.artifact_id == before[told].images[0].artifact_id
            children = processing_pb2.ListSessionsRequest()
            children.filter.parent_session_id = session_id
            found = await client.processing.ListSessions(children, metadata=client.metadata)
            done = [each for each in found.sessions if each.state == COMPLETED]
            assert len(done) == len(NAMES)  # none was done twice
