"""Chains that are cancelled, paused, or lose their worker or server in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import device_pb2, event_pb2, processing_pb2, session_pb2
from deviceops.v1 import postprocessing_pb2 as pb
from tests.domains.chain.pictures import noise
from tests.domains.picture.drawn import saved
from tests.drawings import Followed
from tests.e2e.test_faults import until, worker_of
from tests.e2e.test_restarts import get, kill, watch
from tests.running import Client, RunningServer, start_server

COMPLETED = session_pb2.SESSION_STATE_COMPLETED
PAUSED = session_pb2.SESSION_STATE_PAUSED
TILES = 64  # of the long upscaling
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


def long_upscale(
    priority: session_pb2.Priority.ValueType = session_pb2.PRIORITY_NORMAL, **options: Any
) -> pb.ProcessImageRequest:
    """A step that is done at once, and an upscaling of many tiles."""
    request = pb.ProcessImageRequest(options={"priority": priority, **options})
    request.steps.add().sharpen.amount = 2.0
    request.steps.add().upscale.postprocessor_id = "compact-4x"
    request.steps[1].upscale.tile_pixels = 48
    request.steps[1].upscale.tile_overlap_pixels = 0
    request.image.inline = saved(noise(384, 384).image())
    return request


def begun(client: Client, request: pb.ProcessImageRequest) -> Followed:
    call = client.postprocessing.ProcessImage(request, metadata=client.metadata)
    return Followed(client, call)


async def in_mid_upscale(chain: Followed) -> None:
    """The first step is done, and some tiles of the second."""
    while (await chain.until("item_finished")).item_finished.item_id != "step":
        pass
    for _ in range(3):
        assert (await chain.until("item_finished")).item_finished.item_id == "tile"


async def in_mid_upscale_again(chain: Followed) -> None:
    """It goes on, after the first step."""
    await chain.until("phase_started")
    for _ in range(3):
        await chain.until("item_finished")


async def artifact_of(chain: Followed) -> str:
    """The hash of its picture's file, at its end."""
    [image] = (await chain.finish()).images
    return image.artifact_id


def steps_of(chain: Followed) -> list[int]:
    finished = [e.item_finished for e in chain.events if e.HasField("item_finished")]
    return [each.done_count for each in finished if each.item_id == "step"]


def tiles_of(chain: Followed) -> list[int]:
    finished = [e.item_finished for e in chain.events if e.HasField("item_finished")]
    upscaling = [each for each in finished if each.total_count == TILES]
    return [each.done_count for each in upscaling]


def goes_up(counts: list[int]) -> bool:
    """Of fast tiles not each is told."""
    return counts == sorted(set(counts)) and counts[-1] == TILES


def kept_steps(chain: Followed) -> list[int]:
    """What each turn begins with: the phase is told again once a network is read."""
    phases = [e.phase_started for e in chain.events if e.HasField("phase_started")]
    wanted, loading = session_pb2.PHASE_POSTPROCESSING, session_pb2.PHASE_LOADING_MODEL
    return [
        each.kept_steps
        for before, each in pairwise([event_pb2.PhaseStarted(), *phases])
        if each.phase == wanted and before.phase != loading
    ]


def kept(server: RunningServer) -> list[Path]:
    return list((server.data_dir / "paused").iterdir())


async def pause(client: Client, session_id: str) -> session_pb2.Session:
    request = processing_pb2.PauseSessionRequest(session_id=session_id)
    answer = await client.processing.PauseSession(request, metadata=client.metadata)
    return answer.session


async def resume(client: Client, session_id: str) -> None:
    await client.processing.ResumeSession(
        processing_pb2.ResumeSessionRequest(session_id=session_id), metadata=client.metadata
    )


async def test_a_chain_pauses_in_mid_upscale_and_comes_to_the_same_bytes(
    client: Client, running: RunningServer
) -> None:
    wanted = await artifact_of(begun(client, long_upscale()))
    chain = begun(client, long_upscale())
    await in_mid_upscale(chain)
    assert (await pause(client, chain.session_id)).state == session_pb2.SESSION_STATE_PAUSING
    await chain.until("paused")
    assert (await chain.session()).state == PAUSED
    assert len(kept(running)) == 1

    other = pb.ProcessImageRequest(image=long_upscale().image)  # the device is free
    other.steps.add().sharpen.amount = 1.0
    await begun(client, other).finish()
    await resume(client, chain.session_id)

    assert await artifact_of(chain) == wanted
    assert kept_steps(chain) == [0, 1]
    assert steps_of(chain) == [1, 2]
    assert goes_up(tiles_of(chain))  # none is computed again
    await until(lambda: not kept(running), 60)


@pytest.mark.demonstration
async def test_an_urgent_picture_waits_for_a_tile_and_not_for_an_upscaling(
    client: Client,
) -> None:
    wanted = await artifact_of(begun(client, long_upscale()))
    patient = begun(client, long_upscale(session_pb2.PRIORITY_LOW))
    await in_mid_upscale(patient)
    urgent = pb.ProcessImageRequest(image=long_upscale().image)
    urgent.options.priority = session_pb2.PRIORITY_HIGH
    urgent.steps.add().sharpen.amount = 1.0
    await begun(client, urgent).finish()

    yielded = (await patient.until("yielded")).yielded
    assert yielded.reason == event_pb2.YIELD_REASON_HIGHER_PRIORITY
    assert yielded.kept_steps == 1
    assert await artifact_of(patient) == wanted
    assert steps_of(patient) == [1, 2]
    assert goes_up(tiles_of(patient))


async def test_many_pictures_pause_with_the_one_that_runs(client: Client) -> None:
    request = slow("a", "b")
    call = client.postprocessing.ProcessImages(request, metadata=client.metadata)
    pictures = Followed(client, call)
    await pictures.until("item_finished")
    await pause(client, pictures.session_id)
    await pictures.until("paused")
    children = processing_pb2.ListSessionsRequest()
    children.filter.parent_session_id = pictures.session_id
    found = await client.processing.ListSessions(children, metadata=client.metadata)
    assert {each.state for each in found.sessions} == {PAUSED}

    await resume(client, pictures.session_id)

    end = await pictures.finish()
    assert [image.item_id for image in end.images] == ["a", "b"]
    assert end.images[0].artifact_id == end.images[1].artifact_id  # the same work
    found = await client.processing.ListSessions(children, metadata=client.metadata)
    assert [each.state for each in found.sessions] == [COMPLETED] * 2


@pytest.mark.demonstration
async def test_a_paused_chain_outlives_its_worker_and_its_server(tmp_path: Path) -> None:
    request = long_upscale(request_id=str(uuid.uuid4()))
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    with start_server(tmp_path / "data") as running:
        async with running.client() as client:
            wanted = await artifact_of(begun(client, long_upscale()))
            chain = begun(client, request)
            await in_mid_upscale(chain)
            await pause(client, chain.session_id)
            await chain.until("paused")
            os.kill(worker_of(running.process.pid), signal.SIGKILL)
            await resume(client, chain.session_id)
            await in_mid_upscale_again(chain)
            assert kept_steps(chain) == [0, 1]
            await pause(client, chain.session_id)
            await chain.until("paused")
            kill(running)

    with start_server(tmp_path / "data") as running:
        async with running.client() as client:
            assert (await get(client, chain.session_id)).session.state == PAUSED
            await resume(client, chain.session_id)
            last = await finished(client, chain.session_id)
            assert last.completed.images[0].artifact_id == wanted
            await until(lambda: not kept(running), 60)


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
