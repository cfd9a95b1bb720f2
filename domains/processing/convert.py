"""Requests about sessions between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import processing_pb2, session_pb2
from domains.conversions import EnumMap, moment, timestamp
from domains.session.convert import KINDS, PRIORITIES, STATES, snapshot_to_proto
from domains.session.views import SessionChange, SessionChangeKind, SessionFilter

CHANGES = EnumMap(SessionChangeKind, processing_pb2.SessionChangeKind, "SESSION_CHANGE_KIND_")


def filter_from_proto(message: processing_pb2.SessionFilter) -> SessionFilter:
    """Which sessions a client means.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE: a timestamp that is none.
    """
    return SessionFilter(
        kinds=frozenset(kind for kind in map(KINDS.optional_from_proto, message.kinds) if kind),
        states=frozenset(
            state for state in map(STATES.optional_from_proto, message.states) if state
        ),
        device_id=message.device_id,
        tags=tuple(message.tags),
        parent_session_id=message.parent_session_id,
        owner=message.owner,
        priority=PRIORITIES.optional_from_proto(message.priority),
        model_id=message.model_id,
        created_after=moment(message, "created_after", "filter.created_after"),
        created_before=moment(message, "created_before", "filter.created_before"),
    )


def full(view: session_pb2.SessionView.ValueType) -> bool:
    """Whether everything of a session is wanted."""
    return view == session_pb2.SESSION_VIEW_FULL


def change_to_proto(change: SessionChange) -> processing_pb2.WatchSessionsResponse:
    """Something that happened to a session."""
    return processing_pb2.WatchSessionsResponse(
        kind=CHANGES.to_proto(change.kind),
        session=None if change.session is None else snapshot_to_proto(change.session),
        event_time=timestamp(change.event_time),
        revision=change.revision,
    )
