"""Pausing a generation that runs, over a real server and through the loss of its worker."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import grpc
import pytest

from deviceops.v1 import event_pb2, inference_pb2, processing_pb2, session_pb2
from tests.drawings import Drawing
from tests.e2e.errors import refusal_of
from tests.e2e.programs import run
from tests.e2e.test_command_line import deviceops
from tests.e2e.test_faults import until, worker_of
from tests.fakes.tiny_models import save_sdxl
from tests.running import Client, RunningServer, small_request, start_server

STEPS = 20


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    save_sdxl(models / "tiny")
    return models


def two_pictures() -> inference_pb2.GenerateRequest:
    return small_request(steps=STEPS, model_id="tiny", image_count=2)


def a_long_one() -> inference_pb2.GenerateRequest:
    """It lasts longer than a program takes to start; nobody waits for its end."""
    return small_request(steps=150, model_id="tiny", image_count=8)


def workers_so_far(server: RunningServer) -> int:
    return server.log().count('"worker_spawned"')


def kept(server: RunningServer) -> list[Path]:
    return list((server.data_dir / "paused").iterdir())


async def until_steps(drawing: Drawing, count: int) -> str:
    """Its session's id, once it has made so many steps."""
    for _ in range(count):
        await drawing.until("step_finished")
    return drawing.events[0].session_id


def steps_of(events: list[event_pb2.SessionEvent], image_index: int) -> list[int]:
    found = [event.step_finished for event in events if event.HasField("step_finished")]
    return [step.step for step in found if step.image_index == image_index]


async def test_a_paused_generation_goes_on_after_its_worker_was_killed(
    client: Client, running: RunningServer
) -> None:
    _, wanted = await client.draw(two_pictures())
    drawing = Drawing(client, two_pictures())
    session_id = await until_steps(drawing, STEPS + 3)  # in the second picture
    pause = processing_pb2.PauseSessionRequest(session_id=session_id, reason_text="lunch")
    taken = await client.processing.PauseSession(pause, metadata=client.metadata)
    assert taken.session.state == session_pb2.SESSION_STATE_PAUSING
    assert (await drawing.until("paused")).paused.reason_text == "lunch"
    assert (await drawing.session()).state == session_pb2.SESSION_STATE_PAUSED
    assert len(kept(running)) == 1

    other, _ = await client.draw(small_request(model_id="tiny", steps=2))
    assert other[-1].HasField("completed")
    before = workers_so_far(running)
    os.kill(worker_of(running.process.pid), signal.SIGKILL)
    await until(lambda: workers_so_far(running) > before, 60)
    resume = processing_pb2.ResumeSessionRequest(session_id=session_id)
    await client.processing.ResumeSession(resume, metadata=client.metadata)
    end = await drawing.finish()

    files: dict[int, bytes] = {}
    for event in drawing.events:
        chunk = event.image_chunk
        if event.HasField("image_chunk"):
            files[chunk.image_index] = files.get(chunk.image_index, b"") + chunk.data
    assert files == wanted
    whole = list(range(1, STEPS + 1))
    assert [steps_of(drawing.events, index) for index in (0, 1)] == [whole, whole]
    begun = [event.phase_started for event in drawing.events if event.HasField("phase_started")]
    denoising = [each for each in begun if each.phase == session_pb2.PHASE_DENOISING]
    assert [each.image_index for each in denoising] == [0, 1, 1]
    assert denoising[-1].kept_steps >= 3
    assert end.timings.pause.ToTimedelta().total_seconds() > 0
    assert end.image_count == 2
    await until(lambda: not kept(running), 60)


async def test_the_command_line_pauses_and_resumes_what_runs(
    client: Client, running: RunningServer
) -> None:
    drawing = Drawing(client, a_long_one())
    session_id = await until_steps(drawing, 3)
    code, out, err = await run(*deviceops(running, "sessions", "pause", session_id))
    assert code == 0, out + err
    await drawing.until("paused")
    code, out, err = await run(*deviceops(running, "sessions", "resume", session_id))
    assert code == 0, out + err
    await drawing.until("resumed")
    await drawing.until("step_finished")
    drawing.cancel()


async def test_cancelling_a_paused_generation_ends_it_and_its_file(
    client: Client, running: RunningServer
) -> None:
    drawing = Drawing(client, a_long_one())
    session_id = await until_steps(drawing, 3)
    pause = processing_pb2.PauseSessionRequest(session_id=session_id)
    await client.processing.PauseSession(pause, metadata=client.metadata)
    await drawing.until("paused")
    cancel = processing_pb2.CancelSessionRequest(session_id=session_id)
    await client.processing.CancelSession(cancel, metadata=client.metadata)
    refusal = await refusal_of(drawing.finish())
    assert refusal.reason == "CANCELLED_BY_CLIENT"
    await until(lambda: not kept(running), 60)


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_server_that_drains_does_not_wait_for_what_is_paused(
    root: Path, tmp_path: Path, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = a_long_one()
    if keeps:
        request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    monkeypatch.setenv("DEVICEOPS_DRAIN_SECONDS", "600")
    with start_server(tmp_path, "--model-root", str(root)) as server:
        async with server.client() as client:
            drawing = Drawing(client, request)
            session_id = await until_steps(drawing, 3)
            pause = processing_pb2.PauseSessionRequest(session_id=session_id)
            await client.processing.PauseSession(pause, metadata=client.metadata)
            await drawing.until("paused")

            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                refusal = await refusal_of(drawing.finish())

        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.reason == "SHUTTING_DOWN"
        assert await asyncio.to_thread(server.process.wait, 60) == 0
    if not keeps:
        return
    with start_server(tmp_path, "--model-root", str(root)) as server:
        async with server.client() as client:
            get = processing_pb2.GetSessionRequest(session_id=session_id)
            kept = await client.processing.GetSession(get, metadata=client.metadata)
            assert kept.session.state == session_pb2.SESSION_STATE_PAUSED
