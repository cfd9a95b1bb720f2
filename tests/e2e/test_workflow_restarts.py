"""A server that is killed in the middle of a run: the next one goes on where it was."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from deviceops.v1 import (
    artifact_pb2,
    event_pb2,
    processing_pb2,
    session_pb2,
    workflow_pb2,
)
from tests.e2e.workflow_calls import ended, run_request, workflow
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, start_server

SMALL = "model_id: 'small' width: 256 height: 256 seed: 5"
THREE = workflow(f"""
    workflow_id: 'three'
    steps {{ step_id: 'first' generate {{ settings {{ {SMALL} steps: 2 image_count: 2 }} }} }}
    steps {{
      step_id: 'each'
      generate {{ settings {{ {SMALL} steps: 30 image_to_image {{ strength: 0.9 }} }} }}
      bindings {{ input: 'settings.image_to_image.image' output {{ step_id: 'first' }} }}
      for_each_input: 'settings.image_to_image.image'
    }}
    steps {{
      step_id: 'last'
      generate {{ settings {{ {SMALL} steps: 2 }} }}
      after_step_ids: 'each'
    }}
    result_step_ids: 'each'
    result_step_ids: 'last'
""")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_sd1(folder / "small")
    return folder


def kill(server: RunningServer) -> None:
    """End it as if the machine had stopped."""
    server.process.kill()
    server.process.wait()


async def children(client: Client, session_id: str) -> list[session_pb2.Session]:
    steps = processing_pb2.SessionFilter(parent_session_id=session_id)
    asked = processing_pb2.ListSessionsRequest(filter=steps)
    found = await client.processing.ListSessions(asked, metadata=client.metadata)
    return list(found.sessions)


async def watched(client: Client, session_id: str) -> list[event_pb2.SessionEvent]:
    """Everything that the session's log has, to its end."""
    asked = processing_pb2.WatchSessionRequest(session_id=session_id)
    call = client.processing.WatchSession(asked, metadata=client.metadata)
    async with asyncio.timeout(120):
        return [response.event async for response in call]


async def test_a_run_goes_on_at_the_first_step_that_had_not_ended(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    with start_server(tmp_path, *flags) as server:
        token = await server.named("mary")  # whose pictures others do not see
        async with server.client(token) as client:
            create = workflow_pb2.CreateWorkflowRequest(workflow=THREE)
            await client.processing.CreateWorkflow(create, metadata=client.metadata)
            request = run_request("three")
            request.options.request_id = str(uuid.uuid4())
            request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
            call = client.processing.RunWorkflow(request, metadata=client.metadata)
            async for response in call:
                event = response.event
                if event.item_id == "each" and event.WhichOneof("event") == "step_finished":
                    break
            session_id = event.session_id
            before = {each.session_id: each for each in await children(client, session_id)}
            # The run keeps the version that it was started with.
            changed = workflow_pb2.Workflow()
            changed.CopyFrom(THREE)
            del changed.steps[2]
            del changed.result_step_ids[1]
            update = workflow_pb2.UpdateWorkflowRequest(workflow=changed, expected_version=1)
            await client.processing.UpdateWorkflow(update, metadata=client.metadata)
            kill(server)

    with start_server(tmp_path, *flags) as server:
        async with server.client(token) as client:
            events = await watched(client, session_id)
            after = {each.session_id: each for each in await children(client, session_id)}
            again = client.processing.RunWorkflow(request, metadata=client.metadata)
            first = (await anext(aiter(again))).event
            again.cancel()
    assert events[-1].HasField("completed"), events[-1]
    assert len(before) in (2, 3)  # the second picture's may be about to begin
    assert before.keys() < after.keys()
    assert len(after) == 4
    assert {each.state for each in after.values()} == {session_pb2.SESSION_STATE_COMPLETED}
    steps = ended(events)
    assert set(steps) == {"first", "each#0", "each#1", "each", "last"}
    assert steps["first"].session_id in before
    results = events[-1].completed.images
    assert [each.item_id for each in results] == ["each", "each", "last"]
    assert (first.session_id, first.accepted.existing) == (session_id, True)


async def test_a_run_that_nobody_can_come_back_to_ends_with_its_steps(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            call = client.processing.RunWorkflow(run_request(THREE), metadata=client.metadata)
            async for response in call:
                event = response.event
                if event.item_id == "each" and event.WhichOneof("event") == "step_finished":
                    break
            kill(server)
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            events = await watched(client, event.session_id)
            steps = await children(client, event.session_id)
            for step in steps:
                await watched(client, step.session_id)
            steps = await children(client, event.session_id)
    assert events[-1].HasField("failed")
    states = sorted(each.state for each in steps)
    failed, done = session_pb2.SESSION_STATE_FAILED, session_pb2.SESSION_STATE_COMPLETED
    assert states in ([done, failed], [done, failed, failed]), steps


async def test_a_run_goes_on_after_a_server_that_was_stopped(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            request = run_request(THREE)
            request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
            call = client.processing.RunWorkflow(request, metadata=client.metadata)
            async for response in call:
                event = response.event
                if event.item_id == "each" and event.WhichOneof("event") == "step_finished":
                    break
            server.process.terminate()
            await asyncio.sleep(0.2)
            server.process.terminate()  # at once
            await asyncio.to_thread(server.process.wait, 60)
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            events = await watched(client, event.session_id)
            steps = await children(client, event.session_id)
    assert events[-1].HasField("completed"), events[-1]
    assert len(steps) == 4


KEEPS = workflow(f"""
    workflow_id: 'keeps'
    steps {{ step_id: 'first' generate {{ settings {{ {SMALL} steps: 2 }} }} }}
    steps {{
      step_id: 'keep'
      store {{ pinned: true }}
      bindings {{ input: 'images' output {{ step_id: 'first' }} }}
    }}
    steps {{
      step_id: 'last'
      generate {{ settings {{ {SMALL} steps: 150 }} }}
      after_step_ids: 'keep'
    }}
    result_step_ids: 'keep'
    result_step_ids: 'last'
""")


async def test_what_a_paused_run_kept_is_not_kept_again_by_the_next_server(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            request = run_request(KEEPS)
            request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
            call = client.processing.RunWorkflow(request, metadata=client.metadata)
            async for response in call:
                event = response.event
                if event.item_id == "last" and event.WhichOneof("event") == "step_finished":
                    break
            session_id = event.session_id
            pause = processing_pb2.PauseSessionRequest(session_id=session_id)
            await client.processing.PauseSession(pause, metadata=client.metadata)
            paused = await until_state(client, session_id, session_pb2.SESSION_STATE_PAUSED)
            (kept,) = paused.images
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            again = await until_state(client, session_id, session_pb2.SESSION_STATE_PAUSED)
            assert list(again.images) == [kept]
            unpin = artifact_pb2.UpdateArtifactRequest(
                artifact_id=kept.artifact_id, pinned=False
            )
            await client.artifact.UpdateArtifact(unpin, metadata=client.metadata)
            resume = processing_pb2.ResumeSessionRequest(session_id=session_id)
            await client.processing.ResumeSession(resume, metadata=client.metadata)
            events = await watched(client, session_id)
            look = artifact_pb2.GetArtifactRequest(artifact_id=kept.artifact_id)
            found = await client.artifact.GetArtifact(look, metadata=client.metadata)
    assert events[-1].HasField("completed"), events[-1]
    assert not found.artifact.pinned
    assert [each.item_id for each in events[-1].completed.images] == ["keep", "last"]
    told = [each.item_id for each in events if each.HasField("item_finished")]
    assert sorted(told) == ["first", "keep", "last"]


async def until_state(
    client: Client, session_id: str, state: session_pb2.SessionState.ValueType
) -> session_pb2.Session:
    """A session, once it is in that state."""
    asked = processing_pb2.GetSessionRequest(session_id=session_id)
    async with asyncio.timeout(60):
        while True:
            found = await client.processing.GetSession(asked, metadata=client.metadata)
            if found.session.state == state:
                return found.session
            await asyncio.sleep(0.05)
