"""Servers that are killed and started again: what the next one knows of sessions."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import (
    errors_pb2,
    event_pb2,
    finishing_pb2,
    inference_pb2,
    processing_pb2,
    safety_pb2,
    session_pb2,
)
from tests.e2e.errors import read
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, small_request, start_server


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_sd1(folder / "small")
    return folder


def request(**settings: Any) -> inference_pb2.GenerateRequest:
    """A generation that has a request_id of its own."""
    asked = small_request(model_id="small", **settings)
    asked.options.request_id = str(uuid.uuid4())
    return asked


def kill(server: RunningServer) -> None:
    """End it as if the machine had stopped."""
    server.process.kill()
    server.process.wait()


async def get(client: Client, session_id: str) -> processing_pb2.GetSessionResponse:
    asked = processing_pb2.GetSessionRequest(session_id=session_id)
    return await client.processing.GetSession(asked, metadata=client.metadata)


async def watch(client: Client, session_id: str, start: int) -> list[event_pb2.SessionEvent]:
    asked = processing_pb2.WatchSessionRequest(session_id=session_id, from_sequence=start)
    call = client.processing.WatchSession(asked, metadata=client.metadata)
    return [response.event async for response in call]


async def listed(client: Client) -> list[session_pb2.Session]:
    asked = processing_pb2.ListSessionsRequest()
    found = await client.processing.ListSessions(asked, metadata=client.metadata)
    return list(found.sessions)


async def test_what_has_ended_is_answered_as_before_a_kill(root: Path, tmp_path: Path) -> None:
    flags = ("--model-root", str(root))
    whole, other = request(steps=3), request(steps=5)
    impossible = request(steps=3, width=2048, height=2048)
    impossible.options.run_timeout.FromMilliseconds(1)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            events, files = await client.draw(whole)
            done = events[0].session_id
            with pytest.raises(grpc.aio.AioRpcError):
                await client.draw(impossible)
            failed = next(each.session_id for each in await listed(client))
            deleted = (await client.draw(other))[0][0].session_id
            await client.processing.DeleteSession(
                processing_pb2.DeleteSessionRequest(session_id=deleted),
                metadata=client.metadata,
            )
            before = [await get(client, each) for each in (done, failed)]
            kill(running)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            after = [await get(client, each) for each in (done, failed)]
            assert [each.session_id for each in await listed(client)] == [failed, done]
            for ours, theirs in zip(after, before, strict=True):
                late = ours.session.expire_time.ToSeconds()
                assert abs(late - theirs.session.expire_time.ToSeconds()) <= 1
                theirs.session.expire_time.CopyFrom(ours.session.expire_time)
                theirs.session.first_sequence = ours.session.first_sequence
            assert after == before
            assert after[0].terminal_event.completed.generation.effective_settings.steps == 3
            assert after[1].session.failure.reason == errors_pb2.ERROR_REASON_DEADLINE_EXPIRED
            again, same = await client.draw(whole)
            assert again[0].session_id == done
            assert again[0].accepted.existing
            assert same == files
            watched = await watch(client, done, after[0].session.first_sequence)
            assert watched[-1] == events[-1]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await watch(client, done, 3)
            assert read(refused.value).reason == "EVENTS_EXPIRED"
            whole.settings.steps = 4
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.draw(whole)
            assert read(refused.value).reason == "REQUEST_ID_REUSED"


async def seen_until(call: Any, field: str, count: int = 1) -> list[event_pb2.SessionEvent]:
    """The events of a stream up to so many of a kind."""
    seen: list[event_pb2.SessionEvent] = []
    while sum(event.WhichOneof("event") == field for event in seen) < count:
        seen.append((await call.read()).event)
    return seen


async def ended(client: Client, session_id: str) -> session_pb2.Session:
    """The session once it is final, watched from where its log is whole."""
    start = (await get(client, session_id)).session.first_sequence
    await watch(client, session_id, start)
    return (await get(client, session_id)).session


def detached(**settings: Any) -> inference_pb2.GenerateRequest:
    """A generation that goes on without its stream."""
    asked = request(**settings)
    asked.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    return asked


async def test_what_ran_or_waited_at_a_kill_is_taken_up_with_its_seeds(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    asked = [detached(steps=150), detached(steps=3), detached(steps=4)]
    for each in asked:
        each.settings.ClearField("seed")  # what the server chose is kept
    policy = safety_pb2.SafetyPolicy(policy_id="all-warned")
    policy.rules.add(category="sexy", threshold=0, action=finishing_pb2.SAFETY_ACTION_WARN)
    asked[2].postprocessing.add(safety={"policy_id": policy.policy_id})
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            await client.postprocessing.CreatePolicy(
                safety_pb2.CreatePolicyRequest(policy=policy), metadata=client.metadata
            )
            first = await seen_until(client.generate(asked[0]), "step_finished")
            calls = [client.generate(each) for each in asked[1:]]
            accepted = [first[0], *[(await call.read()).event for call in calls]]
            await client.processing.PauseSession(
                processing_pb2.PauseSessionRequest(session_id=accepted[1].session_id),
                metadata=client.metadata,
            )
            kill(running)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            found = {each.session_id: each for each in await listed(client)}
            paused = found[accepted[1].session_id]
            assert paused.state == session_pb2.SESSION_STATE_PAUSED
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await watch(client, first[0].session_id, first[-1].sequence + 1)
            assert read(refused.value).reason == "EVENTS_EXPIRED"
            again = client.generate(asked[0])  # the same request joins it
            events = [response.event async for response in again]
            assert events[0].session_id == first[0].session_id
            assert events[0].accepted.existing
            (retried,) = [each.retried for each in events if each.HasField("retried")]
            assert retried.retry_count == 1
            assert retried.cause.reason == errors_pb2.ERROR_REASON_SERVER_RESTARTED
            behind = await ended(client, accepted[2].session_id)
            assert behind.retry_count == 0
            (judged,) = behind.images  # its policy was found again
            assert (judged.safety.policy_id, judged.safety.action) == (
                "all-warned",
                finishing_pb2.SAFETY_ACTION_WARN,
            )
            told = (await get(client, events[0].session_id)).session
            assert (told.retry_count, told.method) == (1, "InferenceService.Generate")
            await client.processing.ResumeSession(
                processing_pb2.ResumeSessionRequest(session_id=paused.session_id),
                metadata=client.metadata,
            )
            await ended(client, paused.session_id)
            for each, event in zip(asked, accepted, strict=True):
                session = (await get(client, event.session_id)).session
                assert session.state == session_pb2.SESSION_STATE_COMPLETED
                assert [image.seed for image in session.images] == list(event.accepted.seeds)
                same = inference_pb2.GenerateRequest()
                same.CopyFrom(each)
                same.options.request_id = ""
                same.settings.seed = event.accepted.seeds[0]
                plain, _ = await client.draw(same)
                (image,) = plain[-1].completed.images
                assert image.artifact_id == session.images[0].artifact_id


async def test_what_was_at_work_at_two_kills_is_not_tried_again(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    asked = detached(steps=150)
    for _ in range(2):
        with start_server(tmp_path / "data", *flags) as running:
            async with running.client() as client:
                await seen_until(client.generate(asked), "step_finished")
                kill(running)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.draw(asked)
            assert read(refused.value).reason == "SERVER_RESTARTED"
            assert "2 times" in str(refused.value.details())


async def test_what_hangs_on_its_stream_waits_for_one_or_has_failed(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    named, nameless = request(steps=40), request(steps=40)
    nameless.options.request_id = ""
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            calls = [client.generate(each) for each in (named, nameless)]
            ids = [(await call.read()).event.session_id for call in calls]
            kill(running)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            lost = await ended(client, ids[1])
            assert lost.failure.reason == errors_pb2.ERROR_REASON_SERVER_RESTARTED
            waiting = (await get(client, ids[0])).session
            assert waiting.state == session_pb2.SESSION_STATE_QUEUED
            events, _ = await client.draw(named)
            assert events[0].session_id == ids[0]
            assert events[-1].HasField("completed")


async def test_an_orderly_stop_keeps_what_is_detached_for_the_next_server(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    asked, waiting = detached(steps=150), detached(steps=3)
    hanging = request(steps=3)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            at_work = client.generate(asked)
            session_id = (await seen_until(at_work, "step_finished"))[0].session_id
            calls = [client.generate(each) for each in (waiting, hanging)]
            ids = [(await call.read()).event.session_id for call in calls]
            running.process.terminate()
            await asyncio.sleep(0.2)
            running.process.terminate()  # at once
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                await seen_until(at_work, "completed")
            assert read(cut.value).reason == "SHUTTING_DOWN"
            running.process.wait(60)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            told_off = (await get(client, ids[1])).session
            assert told_off.state == session_pb2.SESSION_STATE_CANCELLED
            for each in (session_id, ids[0]):
                session = await ended(client, each)
                assert session.state == session_pb2.SESSION_STATE_COMPLETED
                assert session.retry_count == 0
