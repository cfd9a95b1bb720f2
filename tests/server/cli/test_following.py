"""Ctrl-C, lost connections, and watching again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import grpc
import pytest

from deviceops.v1 import errors_pb2, event_pb2, inference_pb2, processing_pb2, session_pb2
from server.cli import following, patience
from server.cli.interrupts import Interrupts
from tests.server.cli.conftest import Run
from tests.server.cli.messages import (
    SESSION,
    accepted,
    chunks,
    completed,
    drop,
    event,
    png,
    refuse,
    result,
    whole,
)
from tests.server.cli.scripted import ScriptedServer

WAIT = 30.0  # seconds before a test that hangs fails

Events = Iterator[event_pb2.SessionEvent]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-attaching waits hardly at all, three times."""
    monkeypatch.setattr(patience, "DELAYS", (0.01, 0.01, 0.01))


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_cancels_the_session_and_waits_for_its_end(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The server is told, the stream ends with its last entry, the exit code is 130."""
    noted = threading.Event()

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7)
        _interrupt()
        assert noted.wait(WAIT)
        yield event(
            2,
            cancelled=event_pb2.SessionCancelled(
                reason=errors_pb2.ERROR_REASON_CANCELLED_BY_CLIENT, reason_text="Ctrl-C"
            ),
        )

    scripted.on_generate = draw
    scripted.on_control = lambda request, context: noted.set()
    before = signal.getsignal(signal.SIGINT)
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 130
    assert scripted.of_type(processing_pb2.CancelSessionRequest) == [
        processing_pb2.CancelSessionRequest(session_id=SESSION)
    ]
    assert f"Cancelling session {SESSION}" in done.stderr
    assert f"Cancelled session {SESSION} (Ctrl-C); pictures saved: 0." in done.stderr
    assert signal.getsignal(signal.SIGINT) is before


def test_pictures_finished_before_ctrl_c_are_kept(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """Cancelling ends what is left, not what is done; JSON says both."""
    data, noted = png(), threading.Event()

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7, 8)
        yield from chunks(1, data)
        finished = event_pb2.ImageFinished(image=result(data))
        yield event(2, image_finished=finished)
        _interrupt()
        assert noted.wait(WAIT)
        yield event(3, cancelled=event_pb2.SessionCancelled(images=[result(data)]))

    scripted.on_generate = draw
    scripted.on_control = lambda request, context: noted.set()
    done = against("generate", "x", "--json", "-o", tmp_path)

    summary = json.loads(done.stdout.splitlines()[-1])
    assert (done.exit_code, summary["state"], summary["exit_code"]) == (130, "cancelled", 130)
    assert Path(summary["pictures"][0]["path"]).read_bytes() == data


def test_ctrl_c_before_the_session_is_accepted_drops_the_call(
    against: Run, scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to name in a cancel yet; dropping the call is the cancel."""
    monkeypatch.setattr(following, "ACCEPT_GRACE", 0.05)
    dropped, seen = threading.Event(), SimpleQueue[bool]()

    def draw(request: Any, context: Any) -> Events:
        context.add_callback(dropped.set)
        _interrupt()
        seen.put(dropped.wait(WAIT))
        yield from ()

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 130
    assert seen.get(timeout=WAIT)
    assert scripted.of_type(processing_pb2.CancelSessionRequest) == []


def test_a_cancel_that_the_server_refuses_still_leaves(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The person wants out; why it did not work is said."""
    dropped, seen = threading.Event(), SimpleQueue[bool]()

    def draw(request: Any, context: Any) -> Events:
        context.add_callback(dropped.set)
        yield accepted(7)
        _interrupt()
        seen.put(dropped.wait(WAIT))

    scripted.on_generate = draw
    scripted.on_control = lambda request, context: refuse(
        context, grpc.StatusCode.PERMISSION_DENIED, "Not with this role.", "ROLE_REQUIRED"
    )
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 130
    assert seen.get(timeout=WAIT)
    assert "Cancelling failed: Not with this role." in done.stderr
    assert "Left before the session's end." in done.stderr


def test_a_session_that_never_ends_after_the_cancel_is_left(
    against: Run, scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a bound, the call is dropped."""
    monkeypatch.setattr(following, "CANCEL_GRACE", 0.05)
    dropped, seen = threading.Event(), SimpleQueue[bool]()

    def draw(request: Any, context: Any) -> Events:
        context.add_callback(dropped.set)
        yield accepted(7)
        _interrupt()
        seen.put(dropped.wait(WAIT))

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 130
    assert seen.get(timeout=WAIT)
    assert len(scripted.of_type(processing_pb2.CancelSessionRequest)) == 1


def test_ctrl_c_in_a_process_of_its_own(
    scripted: ScriptedServer, own_settings: Path, tmp_path: Path
) -> None:
    """A real signal to a real process ends the session on the server."""
    begun, noted = threading.Event(), threading.Event()

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7)
        begun.set()
        assert noted.wait(WAIT)
        yield event(2, cancelled=event_pb2.SessionCancelled())

    scripted.on_generate = draw
    scripted.on_control = lambda request, context: noted.set()
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "server.cli", "--server", scripted.address),
            *("generate", "x", "-o", str(tmp_path / "out")),
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'generated/python'}"},  # noqa: TID251
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert begun.wait(WAIT)
        # The line is printed once the stream is being followed, handler in place.
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)

    assert SESSION in first
    assert process.returncode == 130, err
    assert "Cancelled session" in err
    assert "Traceback" not in err
    assert out == ""


def test_a_detached_session_is_watched_again_from_where_it_was_lost(
    against: Run, scripted: ScriptedServer, tmp_path: Path, at_once: None
) -> None:
    """From the entry after the last one seen; a half-sent picture comes again whole."""
    data = png()

    def draw(request: Any, context: Any) -> Events:
        yield from list(whole(data))[:3]
        yield next(chunks(2, data))
        drop(context)

    def watch(request: Any, context: Any) -> Events:
        if len(scripted.of_type(processing_pb2.WatchSessionRequest)) == 1:
            drop(context)
        yield from chunks(2, data)
        yield event(3, image_finished=event_pb2.ImageFinished(image=result(data)))
        yield completed(4, result(data))

    scripted.on_generate = draw
    scripted.on_watch = watch
    done = against("generate", "x", "--detach", "--preview-every", 3, "-o", tmp_path)

    watched = scripted.of_type(processing_pb2.WatchSessionRequest)
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()).read_bytes() == data
    assert [(w.session_id, w.from_sequence) for w in watched] == [(SESSION, 3), (SESSION, 3)]
    (drawn,) = scripted.of_type(inference_pb2.GenerateRequest)
    assert drawn.delivery.previews.every_steps == 3
    assert all(w.delivery == drawn.delivery for w in watched)
    assert "The connection was lost; watching again" in done.stderr


def test_watching_again_is_given_up_after_a_few_times(
    against: Run, scripted: ScriptedServer, tmp_path: Path, at_once: None
) -> None:
    """And the person is told how to look later."""

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7)
        drop(context)

    def watch(request: Any, context: Any) -> Events:
        drop(context)
        yield from ()

    scripted.on_generate, scripted.on_watch = draw, watch
    done = against("generate", "x", "--detach", "-o", tmp_path)

    assert done.exit_code == 3
    assert len(scripted.of_type(processing_pb2.WatchSessionRequest)) == 3
    assert f"deviceops sessions watch {SESSION}" in done.stderr


def test_a_lost_connection_without_detach_is_reported_and_not_watched(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """The server cancels such a session: there is nothing to watch."""

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7)
        drop(context)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 3
    assert f"was lost while session {SESSION} was running" in done.stderr
    assert "--detach" in done.stderr
    assert scripted.of_type(processing_pb2.WatchSessionRequest) == []


def test_a_server_that_dies_in_mid_stream(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    """A really broken connection reads as one: exit code 3, no traceback."""
    stopped = threading.Event()

    def stop() -> None:
        scripted.stop()
        stopped.set()

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7)
        threading.Thread(target=stop).start()
        assert stopped.wait(WAIT)

    scripted.on_generate = draw
    done = against("generate", "x", "-o", tmp_path)

    assert done.exit_code == 3, done.output
    assert f"was lost while session {SESSION} was running" in done.stderr


def test_a_session_that_failed_is_not_watched_again(
    against: Run, scripted: ScriptedServer, tmp_path: Path, at_once: None
) -> None:
    """UNAVAILABLE as the session's own ending is final, detached or not."""

    def draw(request: Any, context: Any) -> Events:
        yield accepted(7)
        failed = event_pb2.SessionFailed()
        failed.failure.status_code = 14
        failed.failure.reason = errors_pb2.ERROR_REASON_WORKER_LOST
        failed.failure.message = "The worker was lost."
        yield event(2, failed=failed)
        refuse(context, grpc.StatusCode.UNAVAILABLE, "The worker was lost.", "WORKER_LOST")

    scripted.on_generate = draw
    done = against("generate", "x", "--detach", "-o", tmp_path)

    assert done.exit_code == 3
    assert scripted.of_type(processing_pb2.WatchSessionRequest) == []


def test_watch_shows_events_from_the_wanted_one(against: Run, scripted: ScriptedServer) -> None:
    """Without picture bytes, to the session's end."""
    scripted.on_watch = lambda request, context: iter(list(whole(png()))[2:])

    done = against("sessions", "watch", SESSION, "--from", 2)

    assert done.exit_code == 0
    assert scripted.requests == [
        processing_pb2.WatchSessionRequest(
            session_id=SESSION,
            from_sequence=2,
            delivery=session_pb2.DeliveryOptions(omit_image_data=True),
        )
    ]
    assert "step 4/4" in done.stderr
    assert f"Session {SESSION}: Completed in 1.5 s" in done.stderr


def test_watching_a_failed_session_ends_with_its_exit_code(
    against: Run, scripted: ScriptedServer
) -> None:
    """The watch itself ends OK; what counts is the session."""
    failed = event_pb2.SessionFailed()
    failed.failure.status_code = 8
    failed.failure.message = "The disk is full."
    failed.failure.reason = errors_pb2.ERROR_REASON_DISK_FULL
    scripted.on_watch = lambda request, context: iter([accepted(7), event(2, failed=failed)])

    done = against("sessions", "watch", SESSION, "--json")

    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 5
    assert summary["state"] == "failed"
    assert summary["error"]["reason"] == "DISK_FULL"


def test_ctrl_c_while_watching_leaves_the_session_alone(
    against: Run, scripted: ScriptedServer
) -> None:
    """It only ends the watching."""
    dropped, seen = threading.Event(), SimpleQueue[bool]()

    def watch(request: Any, context: Any) -> Events:
        context.add_callback(dropped.set)
        yield accepted(7)
        _interrupt()
        seen.put(dropped.wait(WAIT))

    scripted.on_watch = watch
    done = against("sessions", "watch", SESSION)

    assert done.exit_code == 130
    assert seen.get(timeout=WAIT)
    assert scripted.of_type(processing_pb2.CancelSessionRequest) == []
    assert f"Left session {SESSION}; it goes on." in done.stderr


def test_ctrl_c_before_there_is_a_call_ends_the_one_to_come(
    against: Run, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The press is not lost between the command's start and its call's."""
    dropped = threading.Event()

    class Pressed(Interrupts):
        """Ctrl-C was pressed and acted on when the block begins."""

        def __init__(self, act: Callable[[int], None]) -> None:
            self.acted = threading.Event()

            def acting(count: int) -> None:
                act(count)
                self.acted.set()

            super().__init__(acting)

        def __enter__(self) -> Self:
            entered = super().__enter__()
            _interrupt()
            assert self.acted.wait(WAIT)
            return entered

    def watch(request: Any, context: Any) -> Events:
        context.add_callback(dropped.set)
        yield accepted(7)
        dropped.wait(WAIT)

    monkeypatch.setattr(following, "Interrupts", Pressed)
    scripted.on_watch = watch
    begun = time.monotonic()
    done = against("sessions", "watch", SESSION)

    assert done.exit_code == 130
    assert time.monotonic() - begun < WAIT / 2
    assert f"Left session {SESSION}; it goes on." in done.stderr
