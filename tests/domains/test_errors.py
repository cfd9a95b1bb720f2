"""Errors carry what a client needs to act, and nothing by accident."""

from __future__ import annotations

import pytest

from domains import errors
from domains.errors import DomainError, FieldViolation, Reason

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DomainError) and kind is not DomainError
]


def test_there_is_a_kind_for_every_status_that_handlers_answer_with() -> None:
    assert {kind.__name__ for kind in KINDS} == {
        "InvalidArgument",
        "NotFound",
        "AlreadyExists",
        "FailedPrecondition",
        "OutOfRange",
        "PermissionDenied",
        "Unauthenticated",
        "ResourceExhausted",
        "Unavailable",
        "Cancelled",
        "DeadlineExceeded",
        "DataLoss",
        "Unimplemented",
        "Internal",
    }


def test_no_kind_is_another_one() -> None:
    for kind in KINDS:
        assert [other for other in KINDS if issubclass(kind, other)] == [kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.InvalidArgument, Reason.FIELD_OUT_OF_RANGE),
        (errors.FailedPrecondition, Reason.STATE_CONFLICT),
        (errors.Cancelled, Reason.CANCELLED_BY_CLIENT),
        (errors.DeadlineExceeded, Reason.DEADLINE_EXPIRED),
        (errors.Unimplemented, Reason.NOT_BUILT),
        (errors.Internal, Reason.INTERNAL),
    ],
)
def test_a_kind_with_one_usual_reason_has_it(kind: type[DomainError], reason: Reason) -> None:
    assert kind("It failed.").reason is reason


def test_a_reason_given_wins_over_the_usual_one() -> None:
    error = errors.InvalidArgument("It is bad.", reason=Reason.SEED_INVALID)
    assert error.reason is Reason.SEED_INVALID
    assert errors.InvalidArgument.reason is Reason.FIELD_OUT_OF_RANGE


def test_an_error_keeps_everything_it_was_given() -> None:
    violation = FieldViolation("settings.seed", Reason.SEED_INVALID, "Must be a seed.")
    error = errors.ResourceExhausted(
        "Free memory and try again.",
        reason=Reason.DEVICE_OUT_OF_MEMORY,
        metadata={"needed_bytes": "5"},
        violations=[violation],
        retry_after=1.5,
    )
    assert str(error) == error.message == "Free memory and try again."
    assert error.metadata == {"needed_bytes": "5"}
    assert error.violations == (violation,)
    assert error.retry_after == 1.5


def test_an_error_does_not_change_with_what_it_was_made_from() -> None:
    metadata = {"state": "RUNNING"}
    violations = [FieldViolation("a", Reason.NAME_INVALID, "Must be a name.")]
    error = errors.FailedPrecondition("Wait.", metadata=metadata, violations=violations)
    metadata["state"] = "FAILED"
    violations.clear()
    assert error.metadata == {"state": "RUNNING"}
    assert len(error.violations) == 1


def test_an_error_without_details_has_none() -> None:
    error = errors.NotFound("There is none.", reason=Reason.MODEL_NOT_FOUND)
    assert (error.metadata, error.violations, error.retry_after) == ({}, (), None)


def test_a_reason_is_its_own_name() -> None:
    assert all(reason.name == reason.value for reason in Reason)
