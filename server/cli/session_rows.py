"""Sessions as rows of tables and as details."""

from __future__ import annotations

from collections.abc import Iterable

from deviceops.v1 import processing_pb2, session_pb2
from server.cli.narration import phase_words
from server.cli.placing import placed
from server.cli.wording import byte_figure, enum_word, moment

HEADINGS = ("session", "kind", "state", "done", "device", "model", "owner", "accepted")
QUEUE_HEADINGS = ("ahead", "session", "kind", "priority", "model", "owner", "begins about")
CHANGE_HEADINGS = (
    "when",
    "what",
    "session",
    "kind",
    "state",
    "phase",
    "done",
    "device",
    "owner",
)


def rows(sessions: Iterable[session_pb2.Session]) -> list[tuple[str, ...]]:
    """A row for each session under HEADINGS."""
    return [
        (
            session.session_id,
            kind_word(session),
            state_word(session),
            f"{session.progress:.0%}",
            session.placement.device_id,
            session.model_id,
            session.owner,
            moment(session.create_time),
        )
        for session in sessions
    ]


def queue_rows(sessions: Iterable[session_pb2.Session]) -> list[tuple[str, ...]]:
    """A row for each session that waits, under QUEUE_HEADINGS."""
    return [
        (
            str(session.queue_position),
            session.session_id,
            kind_word(session),
            enum_word(session_pb2.Priority, session.options.priority, "PRIORITY_"),
            session.model_id,
            session.owner,
            moment(session.estimated_start_time),
        )
        for session in sessions
    ]


def change_row(change: processing_pb2.WatchSessionsResponse) -> tuple[str, ...]:
    """What happened to a session, under CHANGE_HEADINGS."""
    session = change.session
    return (
        moment(change.event_time),
        enum_word(processing_pb2.SessionChangeKind, change.kind, "SESSION_CHANGE_KIND_"),
        session.session_id,
        kind_word(session),
        state_word(session),
        phase_words(session.phase) if session.phase else "",
        f"{session.progress:.0%}",
        session.placement.device_id,
        session.owner,
    )


def facts(session: session_pb2.Session) -> list[tuple[str, str]]:
    """Everything about a session by name; empty where it has nothing of the kind."""
    return [
        ("session", session.session_id),
        ("kind", kind_word(session)),
        ("state", state_word(session)),
        ("phase", phase_words(session.phase) if session.phase else ""),
        ("done", f"{session.progress:.0%}"),
        ("queue position", str(session.queue_position or "")),
        ("begins about", moment(session.estimated_start_time)),
        ("ends about", moment(session.estimated_end_time)),
        ("device", placed(session.placement)),
        ("model", session.model_id),
        ("owner", session.owner),
        ("priority", _priority(session)),
        ("tags", ", ".join(session.options.tags)),
        ("started by", session.method),
        ("part of", session.parent_session_id),
        ("accepted", moment(session.create_time)),
        ("begun", moment(session.start_time)),
        ("ended", moment(session.end_time)),
        ("kept until", moment(session.expire_time)),
        ("events", f"{session.first_sequence} to {session.last_sequence}"),
        ("started over", str(session.retry_count or "")),
        (
            "peak memory",
            byte_figure(session.peak_memory) if session.HasField("peak_memory") else "",
        ),
        *(
            (
                f"picture {image.image_index + 1}",
                f"{image.width}x{image.height}, seed {image.seed}, {image.artifact_id}",
            )
            for image in session.images
        ),
    ]


def kind_word(session: session_pb2.Session) -> str:
    """`generation`."""
    return enum_word(session_pb2.SessionKind, session.kind, "SESSION_KIND_")


def state_word(session: session_pb2.Session) -> str:
    """`running`."""
    return enum_word(session_pb2.SessionState, session.state, "SESSION_STATE_")


def _priority(session: session_pb2.Session) -> str:
    if not session.options.priority:
        return ""
    return enum_word(session_pb2.Priority, session.options.priority, "PRIORITY_")
