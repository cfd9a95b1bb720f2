"""Errors carry what a client needs to act, and nothing by accident."""

from __future__ import annotations

import re

import grpc
import msgspec
import pytest

from domains import errors
from domains.codec import Malformed, decode, encode
from domains.errors import KINDS, DomainError, Failure, FieldViolation, Reason


def test_there_is_a_kind_for_every_status_that_handlers_answer_with() -> None:
    """OK is no error; nothing here is UNKNOWN or ABORTED."""
    words = re.compile(r"(?<!^)(?=[A-Z])")
    named = {words.sub("_", kind.__name__).upper(): code for code, kind in KINDS.items()}
    public = {code.name: code.value[0] for code in grpc.StatusCode}
    assert public.items() - named.items() == {("OK", 0), ("UNKNOWN", 2), ("ABORTED", 10)}
    assert named.items() <= public.items()


def test_every_kind_is_in_the_table() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and DomainError in kind.__bases__
    }
    assert kinds == set(KINDS.values())


def test_no_kind_is_another_one() -> None:
    for kind in KINDS.values():
        assert [other for other in KINDS.values() if issubclass(kind, other)] == [kind]


def test_an_error_has_the_code_of_its_kind() -> None:
    class LoraMissing(errors.NotFound):
        pass

    class Odd(DomainError):
        pass

    assert LoraMissing("x").failure().code == errors.NotFound.code
    assert Odd("x").failure().code == errors.Internal.code


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


# Failures: errors as values.


@pytest.mark.parametrize("kind", list(KINDS.values()))
@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.INTERNAL])
def test_an_error_survives_as_its_kind(kind: type[DomainError], reason: Reason) -> None:
    error = kind(
        "It failed; try again.",
        reason=reason,
        metadata={"free_bytes": "12"},
        violations=[FieldViolation("settings.loras[1].weight", reason, "Too much.")],
        retry_after=2.5,
    )
    again = decode(Failure, encode(error.failure())).error()
    assert type(again) is kind
    for fact in ("message", "reason", "metadata", "violations", "retry_after"):
        assert getattr(again, fact) == getattr(error, fact)


def test_every_reason_survives() -> None:
    for reason in Reason:
        failure = errors.Internal("It failed.", reason=reason).failure()
        assert decode(Failure, encode(failure)).reason is reason


def test_a_domains_own_error_comes_back_as_its_kind() -> None:
    class TooSmall(errors.FailedPrecondition):
        pass

    again = TooSmall("It is too small.").failure().error()
    assert type(again) is errors.FailedPrecondition
    assert again.retry_after is None


@pytest.mark.parametrize("text", ["a" * 5000, "first\nsecond\x1b[31m", "\udc80", "\u2028"])
def test_whatever_an_error_says_its_failure_can_be_sent(text: str) -> None:
    error = errors.InvalidArgument(
        text,
        metadata={f"key_{number}": text for number in range(100)},
        violations=[FieldViolation(text, Reason.TEXT_INVALID, text)] * 100,
        retry_after=-1,
    )
    failure = error.failure()
    again = decode(Failure, encode(failure))
    assert again == failure
    assert len(again.message) == min(len(text), 1000)
    assert again.retry_after == 0


def test_violations_that_are_left_out_are_counted_once() -> None:
    violations = [FieldViolation(f"f{k}", Reason.TEXT_INVALID, "No.") for k in range(23)]
    failure = errors.InvalidArgument("No.", violations=violations).failure()
    assert failure.error().failure() == failure
    assert [violation.field for violation in failure.violations] == [f"f{k}" for k in range(20)]
    assert failure.metadata["violations_omitted"] == "3"


@pytest.mark.parametrize("code", [0, 2, 10, 17, 200])
def test_no_failure_has_a_code_without_a_kind(code: int) -> None:
    name = b"code"
    honest = encode(errors.Internal("x").failure())
    sent = honest.replace(name + b"\x0d", name + msgspec.msgpack.encode(code))
    assert sent != honest
    with pytest.raises(Malformed):
        decode(Failure, sent)
