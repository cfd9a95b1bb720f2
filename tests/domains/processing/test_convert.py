"""Requests about sessions as clients send them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from deviceops.v1 import processing_pb2, session_pb2
from domains.errors import InvalidArgument
from domains.processing.convert import ACTIONS, filter_from_proto
from domains.processing.types import ControlAction, SessionFilter
from domains.session.types import SessionKind, SessionState


def test_every_action_of_the_contract_has_a_member() -> None:
    wire = [value for value in processing_pb2.ControlAction.values() if value]

    assert {ACTIONS.optional_from_proto(value) for value in wire} == set(ControlAction)


def test_a_filter_says_what_was_asked() -> None:
    message = processing_pb2.ListSessionsRequest(
        kind=session_pb2.SESSION_KIND_GENERATION,
        states=[session_pb2.SESSION_STATE_FAILED],
        device_id="cpu:0",
        tags=["a"],
        parent_session_id="p",
    )

    wanted = filter_from_proto(message)

    assert wanted.kind is SessionKind.GENERATION
    assert wanted.states == (SessionState.FAILED,)
    assert (wanted.device_id, wanted.tags, wanted.parent_session_id) == ("cpu:0", ("a",), "p")
    assert len(fields(SessionFilter)) == 5


def test_an_unknown_enum_number_is_refused() -> None:
    message = processing_pb2.ListSessionsRequest(kind=99)  # type: ignore[arg-type]

    with pytest.raises(InvalidArgument):
        filter_from_proto(message)
