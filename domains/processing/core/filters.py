"""The rules that filters and reasons must keep."""

from __future__ import annotations

from collections.abc import Iterator

from domains import checks
from domains.errors import FieldViolation
from domains.limits import LIMITS
from domains.session.views import SessionFilter


def broken_filter(wanted: SessionFilter) -> Iterator[FieldViolation | None]:
    """Every rule that a filter breaks."""
    yield from checks.lines("filter.tags", wanted.tags, LIMITS["SessionFilter.tags"])
    if wanted.device_id:
        yield checks.device_id("filter.device_id", wanted.device_id)
    for field in ("parent_session_id", "owner", "model_id"):
        if getattr(wanted, field):
            yield checks.name(f"filter.{field}", getattr(wanted, field))


def broken_reason(reason_text: str) -> FieldViolation | None:
    """The rule that the reason given for a pause or a cancellation breaks."""
    limit = LIMITS["CancelSessionRequest.reason_text"]
    return checks.line("reason_text", reason_text, limit)
