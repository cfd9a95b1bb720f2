"""Requests about sessions between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import processing_pb2
from domains.conversions import EnumMap
from domains.processing.types import ControlAction, SessionFilter
from domains.session.convert import KINDS, STATES

ACTIONS = EnumMap(ControlAction, processing_pb2.ControlAction, "CONTROL_ACTION_")


def filter_from_proto(message: processing_pb2.ListSessionsRequest) -> SessionFilter:
    """Which sessions a client wants listed."""
    return SessionFilter(
        kind=KINDS.optional_from_proto(message.kind),
        states=tuple(
            state for state in map(STATES.optional_from_proto, message.states) if state
        ),
        device_id=message.device_id,
        tags=tuple(message.tags),
        parent_session_id=message.parent_session_id,
    )
