"""Servers that are killed and started again: what the next one knows of sessions."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import errors_pb2, event_pb2, inference_pb2, processing_pb2, session_pb2
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


async def test_what_ran_at_a_kill_has_failed_and_is_listed(root: Path, tmp_path: Path) -> None:
    flags = ("--model-root", str(root))
    running_one, waiting = request(steps=150), request(steps=3)
    for each in (running_one, waiting):
        each.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            call = client.generate(running_one)
            first = (await call.read()).event
            seen = first.sequence
            while seen < 8:
                seen = (await call.read()).event.sequence
            behind = (await client.generate(waiting).read()).event.session_id
            kill(running)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            sessions = await listed(client)
            assert [each.session_id for each in sessions] == [behind, first.session_id]
            for each in sessions:
                assert each.state == session_pb2.SESSION_STATE_FAILED
                assert each.failure.reason == errors_pb2.ERROR_REASON_SERVER_RESTARTED
                assert each.last_sequence > seen
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.draw(running_one)
            assert read(refused.value).reason == "SERVER_RESTARTED"
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await watch(client, first.session_id, seen + 1)
            assert read(refused.value).reason == "EVENTS_EXPIRED"
