"""`deviceops sessions watch` without a session: all of them, live."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from deviceops.v1 import processing_pb2, session_pb2
from server.cli import patience, sessions_watch
from tests.server.cli.conftest import Run
from tests.server.cli.messages import drop, refuse
from tests.server.cli.scripted import ScriptedServer

WAIT = 30.0  # seconds before a test that hangs fails
ADDED = processing_pb2.SESSION_CHANGE_KIND_ADDED
ENDED = processing_pb2.SESSION_CHANGE_KIND_ENDED
SNAPSHOT_END = processing_pb2.SESSION_CHANGE_KIND_SNAPSHOT_END
HEARTBEAT = processing_pb2.SESSION_CHANGE_KIND_HEARTBEAT

Changes = Iterator[processing_pb2.WatchSessionsResponse]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watching again waits hardly at all, three times."""
    monkeypatch.setattr(patience, "DELAYS", (0.01, 0.01, 0.01))


def change(
    kind: Any, revision: int, session_id: str = "", state: Any = 2
) -> processing_pb2.WatchSessionsResponse:
    said = processing_pb2.WatchSessionsResponse(kind=kind, revision=revision)
    if session_id:
        session = session_pb2.Session(session_id=session_id, kind=1, state=state, owner="ann")
        said.session.CopyFrom(session)
    return said


def shutting_down(context: Any) -> None:
    refuse(context, grpc.StatusCode.UNAVAILABLE, "The server ends.", "SHUTTING_DOWN")


def asked(scripted: ScriptedServer) -> list[int]:
    """From which revision each call wanted to go on."""
    return [r.from_revision for r in scripted.of_type(processing_pb2.WatchSessionsRequest)]


def test_it_is_a_line_for_each_change_until_the_server_ends(
    against: Run, scripted: ScriptedServer
) -> None:
    def changes(request: Any, context: Any) -> Changes:
        yield change(ADDED, 7, "s1")
        yield change(SNAPSHOT_END, 7)
        yield change(HEARTBEAT, 7)
        yield change(ENDED, 8, "s1", session_pb2.SESSION_STATE_COMPLETED)
        shutting_down(context)

    scripted.on_changes = changes
    done = against("sessions", "watch", "--tag", "a", "--owner", "ann", "--from", 3)

    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[1:5] for line in lines] == [
        ["added", "s1", "generation", "running"],
        ["ended", "s1", "generation", "completed"],
    ]
    assert done.exit_code == 3
    assert "SHUTTING_DOWN" in done.stderr
    assert scripted.requests == [
        processing_pb2.WatchSessionsRequest(
            filter=processing_pb2.SessionFilter(tags=["a"], owner="ann"), from_revision=3
        )
    ]


def test_a_lost_connection_goes_on_after_the_last_change(
    against: Run, scripted: ScriptedServer
) -> None:
    def changes(request: Any, context: Any) -> Changes:
        if not request.from_revision:
            yield change(ADDED, 7, "s1")
            yield change(SNAPSHOT_END, 7)
            yield change(ENDED, 9, "s1")
            drop(context)
        shutting_down(context)

    scripted.on_changes = changes
    done = against("sessions", "watch", "--json")

    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one.get("revision") for one in said] == ["7", "7", "9", None]
    assert asked(scripted) == [0, 9]


def test_a_state_that_was_cut_off_is_asked_for_again(
    against: Run, scripted: ScriptedServer
) -> None:
    """Going on after its number would leave out what had not come."""

    def changes(request: Any, context: Any) -> Changes:
        yield change(ADDED, 7, "s1")
        if len(asked(scripted)) == 1:
            drop(context)
        yield change(ADDED, 7, "s2")
        yield change(SNAPSHOT_END, 7)
        shutting_down(context)

    scripted.on_changes = changes
    done = against("sessions", "watch")

    assert asked(scripted) == [0, 0]
    assert "s2" in done.stdout


def test_changes_that_are_no_longer_kept_begin_with_the_state_of_now(
    against: Run, scripted: ScriptedServer
) -> None:
    def changes(request: Any, context: Any) -> Changes:
        if request.from_revision:
            refuse(context, grpc.StatusCode.OUT_OF_RANGE, "Too old.", "EVENTS_EXPIRED")
        yield change(ADDED, 90, "s1")
        shutting_down(context)

    scripted.on_changes = changes
    done = against("sessions", "watch", "--from", 5)

    assert asked(scripted) == [5, 0]
    assert "s1" in done.stdout


def test_it_is_given_up_after_a_few_times(against: Run, scripted: ScriptedServer) -> None:
    def changes(request: Any, context: Any) -> Changes:
        drop(context)
        yield from ()

    scripted.on_changes = changes
    done = against("sessions", "watch")

    assert done.exit_code == 3
    assert len(asked(scripted)) == 4
    assert "No server answers" in done.stderr


def test_a_refused_watch_is_not_tried_again(against: Run, scripted: ScriptedServer) -> None:
    def changes(request: Any, context: Any) -> Changes:
        refuse(context, grpc.StatusCode.PERMISSION_DENIED, "Not so.", "ROLE_REQUIRED")
        yield from ()

    scripted.on_changes = changes
    done = against("sessions", "watch")

    assert done.exit_code == 1
    assert len(asked(scripted)) == 1
    assert "deviceops server info" in done.stderr


def test_ctrl_c_ends_it_well(
    against: Run, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, dropped = threading.Event(), threading.Event()
    plain = sessions_watch.plain

    def show(line: Any) -> None:
        plain(line)
        shown.set()

    def changes(request: Any, context: Any) -> Changes:
        context.add_callback(dropped.set)
        yield change(ADDED, 1, "s1")
        assert shown.wait(WAIT)
        os.kill(os.getpid(), signal.SIGINT)
        assert dropped.wait(WAIT)

    monkeypatch.setattr(sessions_watch, "plain", show)
    scripted.on_changes = changes
    done = against("sessions", "watch")

    assert done.exit_code == 0
    assert dropped.wait(WAIT)
