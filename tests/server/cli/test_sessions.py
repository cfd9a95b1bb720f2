"""The commands about sessions that do not follow one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from deviceops.v1 import errors_pb2, processing_pb2, session_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import CHOSEN, SESSION
from tests.server.cli.scripted import ScriptedServer


@pytest.fixture
def machine(scripted: ScriptedServer) -> ScriptedServer:
    """A session that runs."""
    scripted.sessions = [
        session_pb2.Session(
            session_id=SESSION,
            kind=session_pb2.SESSION_KIND_GENERATION,
            state=session_pb2.SESSION_STATE_RUNNING,
            progress=0.5,
            placement=CHOSEN,
            model_id="emoji-xl",
            owner="ann",
        )
    ]
    return scripted


def test_sessions_are_listed_and_filtered(against: Run, machine: ScriptedServer) -> None:
    """Newest first is the server's affair; the filters are words."""
    done = against(
        *("sessions", "--state", "running", "--state", "queued", "--kind", "generation"),
        *("--owner", "ann", "--device", "cpu:0", "--model", "emoji-xl", "--tag", "t"),
        *("--priority", "high", "--limit", 5),
    )

    assert done.stdout.splitlines()[1].split("\t")[:7] == [
        *(SESSION, "generation", "running", "50%", "cpu:0", "emoji-xl", "ann")
    ]
    assert machine.requests == [
        processing_pb2.ListSessionsRequest(
            filter=processing_pb2.SessionFilter(
                kinds=[session_pb2.SESSION_KIND_GENERATION],
                states=[session_pb2.SESSION_STATE_RUNNING, session_pb2.SESSION_STATE_QUEUED],
                owner="ann",
                device_id="cpu:0",
                model_id="emoji-xl",
                tags=["t"],
                priority=session_pb2.PRIORITY_HIGH,
            ),
            page_size=5,
        )
    ]


@pytest.mark.parametrize(("limit", "shown"), [(5, 5), (9, 5), (3, 3), (1, 1)])
def test_sessions_are_listed_over_pages_up_to_the_limit(
    against: Run, machine: ScriptedServer, limit: int, shown: int
) -> None:
    """A page may be shorter than was asked for."""
    machine.sessions = [session_pb2.Session(session_id=f"s{number}") for number in range(5)]

    done = against("sessions", "--limit", limit)

    rows = [line.split("\t")[0] for line in done.stdout.splitlines()[1:]]
    assert rows == [f"s{number}" for number in range(shown)]
    assert (f"more than {limit}" in done.stderr) is (limit < 5)


def test_a_session_is_shown_with_its_failure(against: Run, machine: ScriptedServer) -> None:
    """As the same block that a failing command ends with."""
    machine.sessions[0].state = session_pb2.SESSION_STATE_FAILED
    machine.sessions[0].failure.status_code = 8
    machine.sessions[0].failure.reason = errors_pb2.ERROR_REASON_DISK_FULL
    machine.sessions[0].failure.message = "The disk is full."

    done = against("sessions", "show", SESSION)

    assert done.exit_code == 0
    assert "state:   failed\n" in done.stdout
    assert "device:  cpu:0 (its queue ends first)\n" in done.stdout
    assert "reason: DISK_FULL (RESOURCE_EXHAUSTED)" in done.stdout
    assert against("sessions", "show", "other").exit_code == 4


@pytest.mark.parametrize(
    ("command", "request_type", "state"),
    [
        ("cancel", processing_pb2.CancelSessionRequest, "cancelling"),
        ("pause", processing_pb2.PauseSessionRequest, "pausing"),
        ("resume", processing_pb2.ResumeSessionRequest, "queued"),
    ],
)
def test_sessions_are_controlled_by_id(
    command: str,
    request_type: Callable[..., Message],
    state: str,
    against: Run,
    machine: ScriptedServer,
) -> None:
    """The answer says how the session stands now."""
    done = against("sessions", command, SESSION)

    assert done.stdout == f"Session {SESSION} is {state}.\n"
    assert machine.requests == [request_type(session_id=SESSION)]


@pytest.mark.parametrize("command", ["cancel", "pause"])
def test_a_reason_goes_along(command: str, against: Run, machine: ScriptedServer) -> None:
    against("sessions", command, SESSION, "--reason", "the card is needed")

    assert machine.requests[0].reason_text == "the card is needed"


def test_sessions_are_cancelled_by_filter(against: Run, machine: ScriptedServer) -> None:
    done = against(
        *("sessions", "cancel", "--tag", "batch-7", "--state", "queued", "--owner", "ann"),
        *("--priority", "low", "--reason", "wrong prompt"),
    )

    assert done.stdout == "3 sessions cancelled.\n"
    assert machine.requests == [
        processing_pb2.CancelSessionsRequest(
            filter=processing_pb2.SessionFilter(
                tags=["batch-7"],
                states=[session_pb2.SESSION_STATE_QUEUED],
                owner="ann",
                priority=session_pb2.PRIORITY_LOW,
            ),
            reason_text="wrong prompt",
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cancel",), "Name a session, or which sessions"),
        (("cancel", SESSION, "--tag", "a"), "a session or a filter, not both"),
        (("watch", SESSION, "--state", "queued"), "a session or a filter, not both"),
        (("update", SESSION), "Say what changes"),
        (("update", SESSION, "--tag", "a", "--no-tags"), "exclude each other"),
        (("update", SESSION, "--retention", "long"), "--retention: 'long' is no time"),
    ],
)
def test_what_would_cancel_or_change_too_much_or_nothing_is_not_sent(
    arguments: tuple[str, ...], said: str, against: Run, machine: ScriptedServer
) -> None:
    done = against("sessions", *arguments)

    assert done.exit_code == 2
    assert said in done.stderr
    assert machine.requests == []


def test_update_changes_what_is_named_and_nothing_else(
    against: Run, machine: ScriptedServer
) -> None:
    first = against("sessions", "update", SESSION, "--priority", "high")
    against("sessions", "update", SESSION, "--tag", "a", "--tag", "b", "--retention", "7d")
    against("sessions", "update", SESSION, "--no-tags")

    raised, tagged, bare = machine.requests
    assert first.stdout == f"Session {SESSION} is queued.\n"
    assert raised.update_fields.paths == ["priority"]
    assert raised.options == session_pb2.WorkOptions(priority=session_pb2.PRIORITY_HIGH)
    assert tagged.update_fields.paths == ["tags", "retention"]
    assert list(tagged.options.tags) == ["a", "b"]
    assert tagged.options.retention.seconds == 7 * 86400
    assert (bare.update_fields.paths, list(bare.options.tags)) == (["tags"], [])


def test_a_queue_is_shown_in_order_and_what_is_hidden_is_counted(
    against: Run, machine: ScriptedServer
) -> None:
    machine.sessions = [
        session_pb2.Session(
            session_id="s1", kind=1, queue_position=0, owner="ann", model_id="emoji-xl"
        ),
        session_pb2.Session(session_id="s2", kind=4, queue_position=2, owner="ann"),
    ]
    machine.sessions[1].options.priority = session_pb2.PRIORITY_HIGH
    machine.others_waiting = 1

    done = against("sessions", "queue", "gpu")

    table = [line.split("\t") for line in done.stdout.splitlines()]
    assert table[0][:3] == ["ahead", "session", "kind"]
    assert table[1][:6] == ["0", "s1", "generation", "unspecified", "emoji-xl", "ann"]
    assert table[2][:4] == ["2", "s2", "model-load", "high"]
    assert "1 more of other clients" in done.stderr
    assert machine.requests == [processing_pb2.ListQueueRequest(device_id="gpu")]
    assert json.loads(against("sessions", "queue", "--json").stdout)["total_count"] == 3


def test_an_unknown_word_is_refused_before_any_call(
    against: Run, machine: ScriptedServer
) -> None:
    """With the words there are."""
    done = against("sessions", "--state", "sleeping")

    assert done.exit_code == 2
    assert "'sleeping' is none of: queued, running" in done.stderr
    assert machine.requests == []


def test_states_and_kinds_of_a_newer_server_are_numbers(
    against: Run, machine: ScriptedServer
) -> None:
    """As unspecified as anything this side does not know; the table still stands."""
    machine.sessions[0].state = 99  # type: ignore[assignment]
    machine.sessions[0].kind = 98  # type: ignore[assignment]
    machine.sessions[0].placement.reason = 97  # type: ignore[assignment]

    listed = against("sessions")
    shown = against("sessions", "show", SESSION)

    assert listed.stdout.splitlines()[1].split("\t")[1:3] == [
        "unspecified (98)",
        "unspecified (99)",
    ]
    assert "cpu:0 (unspecified (97))" in shown.stdout
