"""Requests about sessions as clients send them."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from deviceops.v1 import processing_pb2, session_pb2
from domains.errors import InvalidArgument, Reason
from domains.processing.convert import filter_from_proto
from domains.session.types import Priority, SessionKind, SessionState
from domains.session.views import SessionFilter


def test_a_filter_says_what_was_asked() -> None:
    message = processing_pb2.SessionFilter(
        kinds=[session_pb2.SESSION_KIND_GENERATION],
        states=[session_pb2.SESSION_STATE_FAILED],
        device_id="cpu:0",
        tags=["a"],
        parent_session_id="p",
        owner="o",
        priority=session_pb2.PRIORITY_LOW,
        model_id="m",
        created_after=Timestamp(seconds=1),
        created_before=Timestamp(seconds=2),
    )

    assert filter_from_proto(message) == SessionFilter(
        frozenset({SessionKind.GENERATION}),
        frozenset({SessionState.FAILED}),
        "cpu:0",
        ("a",),
        "p",
        "o",
        Priority.LOW,
        "m",
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC),
    )
    assert len(fields(SessionFilter)) == len(message.DESCRIPTOR.fields)
    assert filter_from_proto(processing_pb2.SessionFilter()) == SessionFilter()


@pytest.mark.parametrize("field", ["created_after", "created_before"])
@pytest.mark.parametrize("seconds", [-(2**63), 2**63 - 1])
def test_a_moment_that_no_calendar_has_is_refused(field: str, seconds: int) -> None:
    message = processing_pb2.SessionFilter(**{field: Timestamp(seconds=seconds)})

    with pytest.raises(InvalidArgument) as refused:
        filter_from_proto(message)

    (violation,) = refused.value.violations
    assert violation.field == f"filter.{field}"
    assert violation.reason is Reason.FIELD_OUT_OF_RANGE


def test_an_unknown_enum_number_is_refused() -> None:
    message = processing_pb2.SessionFilter(kinds=[99])  # type: ignore[arg-type]

    with pytest.raises(InvalidArgument):
        filter_from_proto(message)
