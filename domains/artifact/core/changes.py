"""Rules of what owners say about their artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from domains import checks
from domains.artifact.types import LabelChange
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.limits import LIMITS, Limit


def broken_labels(
    path: str, labels: Mapping[str, str], limit: Limit
) -> Iterator[FieldViolation | None]:
    """Every rule that labels at `path` break; of too many only the first are looked at."""
    yield checks.elements(path, len(labels), limit)
    for name, value in islice(labels.items(), limit.max_elements):
        yield checks.name(path, name)
        yield checks.line(path, value, limit)


def check_retention(seconds: float | None, path: str = "retention") -> None:
    """Refuse a retention that is too long or too short; None says nothing.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE.
    """
    if seconds is not None:
        limit = LIMITS["UpdateArtifactRequest.retention"]
        InvalidArgument.check(checks.number(path, seconds, limit))


def check_labels(change: LabelChange) -> None:
    """Refuse a change that nothing could be changed by.

    Raises:
        InvalidArgument: NAME_INVALID, TEXT_TOO_LONG, TEXT_INVALID, TOO_MANY_ELEMENTS, or
            FIELDS_CONFLICT: a label is set and removed.
    """
    InvalidArgument.check(
        *broken_labels(change.path, change.values, LIMITS["UpdateArtifactRequest.labels"]),
        *_broken_removals(change),
    )


def _broken_removals(change: LabelChange) -> Iterator[FieldViolation | None]:
    limit = LIMITS["UpdateArtifactRequest.removed_labels"]
    yield checks.elements("removed_labels", len(change.removed), limit)
    for at, name in enumerate(change.removed[: limit.max_elements]):
        field = f"removed_labels[{at}]"
        yield checks.name(field, name)
        if name in change.values:
            rule = "Is set as well; leave one of the two out."
            yield FieldViolation(field, Reason.FIELDS_CONFLICT, rule)
