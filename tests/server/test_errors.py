"""The table from kinds to codes, and details that always fit a client's limits."""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from domains import errors
from domains.errors import Failure, FieldViolation, InvalidArgument, Reason, Unavailable
from domains.session.errors import SessionFailed
from server.errors import cut, describe_failure, rich_status, to_status
from tests.server.echo import failing, serving, told


def test_expected_failure_is_described_whole(log_lines: list[dict[str, Any]]) -> None:
    failure = describe_failure(
        Unavailable(
            "Lost.", reason=Reason.WORKER_LOST, metadata={"device_id": "cpu:0"}, retry_after=2
        )
    )
    assert failure.code == Unavailable.code
    assert (failure.reason, failure.message) == (Reason.WORKER_LOST, "Lost.")
    assert failure.metadata == {"device_id": "cpu:0"}
    assert (failure.retry_after, failure.incident_id) == (2, "")
    assert log_lines == []


def test_unexpected_failure_is_one_incident_however_often_described(
    log_lines: list[dict[str, Any]],
) -> None:
    error = RuntimeError("private")
    first, second = describe_failure(error), describe_failure(error)
    assert first == second
    assert first.code == errors.Internal.code
    assert first.metadata["incident_id"] == first.incident_id
    assert "private" not in str(first)
    [line] = log_lines
    assert line["incident_id"] == first.incident_id
    assert describe_failure(RuntimeError("private")).incident_id != first.incident_id


def test_known_defect_keeps_its_words_and_gets_an_incident(
    log_lines: list[dict[str, Any]],
) -> None:
    failure = describe_failure(errors.Internal("No.", reason=Reason.WORKER_CRASH_REPEATED))
    assert (failure.message, failure.reason) == ("No.", Reason.WORKER_CRASH_REPEATED)
    assert failure.incident_id
    assert len(log_lines) == 1


@pytest.mark.parametrize("code", [13, 14])
def test_a_failed_sessions_own_failure_is_told_again_as_it_was(
    code: int, log_lines: list[dict[str, Any]]
) -> None:
    """Also that of a defect, which was logged under its incident when it happened."""
    failure = Failure(
        code,
        Reason.WORKER_LOST,
        "The worker was lost.",
        {"device_id": "cpu:0", "incident_id": "1234"},
        (FieldViolation("settings.seed", Reason.SEED_INVALID, "Must be a seed."),),
        1.5,
        "1234",
    )
    assert describe_failure(SessionFailed(failure)) == failure
    assert log_lines == []


def full_database() -> sqlite3.OperationalError:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left"), Reason.DISK_FULL),
        (full_database(), Reason.DISK_FULL),
        (MemoryError(), Reason.HOST_OUT_OF_MEMORY),
    ],
    ids=["disk", "database", "memory"],
)
def test_full_resources_are_recognised(error: Exception, reason: Reason) -> None:
    failure = describe_failure(error)
    assert (failure.code, failure.reason) == (errors.ResourceExhausted.code, reason)


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "private"), sqlite3.OperationalError("private")]
)
def test_other_failures_of_disk_and_database_are_incidents(
    error: Exception, log_lines: list[dict[str, Any]]
) -> None:
    assert describe_failure(error).reason is Reason.INTERNAL


def test_violations_beyond_twenty_are_counted() -> None:
    violations = [FieldViolation(f"f{i}", Reason.TEXT_INVALID, "No.") for i in range(23)]
    failure = describe_failure(InvalidArgument("No.", violations=violations))
    assert [violation.field for violation in failure.violations] == [f"f{i}" for i in range(20)]
    assert failure.metadata["violations_omitted"] == "3"


def wordy(text: str, count: int) -> InvalidArgument:
    return InvalidArgument(
        text,
        reason=Reason.FIELDS_CONFLICT,
        metadata={f"key_{i}": text for i in range(6)},
        violations=[
            FieldViolation(f"{i}{text}", Reason.TEXT_INVALID, text) for i in range(count)
        ],
        retry_after=1,
    )


@pytest.mark.parametrize(
    "text", ["a" * 9000, "ü" * 9000, "🎨" * 9000, "\n" * 9000, "\udc80" * 99]
)
@pytest.mark.parametrize("count", [0, 1, 20, 500])
async def test_the_wordiest_error_reaches_a_client(text: str, count: int) -> None:
    """Over a real channel with default limits: trailers over 8 KB would be a bare failure."""
    from server.interceptors.errors import ErrorInterceptor

    async with serving([ErrorInterceptor()], failing(wordy(text, count))) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call("Unary")
    what = told(caught.value)
    assert (what.code, what.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELDS_CONFLICT")
    assert what.retry_seconds == 1
    assert len(what.violations) + int(what.metadata.get("violations_omitted", 0)) == count
    assert what.message


@given(
    message=st.text(max_size=3000),
    description=st.text(max_size=2000),
    count=st.integers(0, 60),
)
def test_trailers_stay_under_eight_kilobytes(
    message: str, description: str, count: int
) -> None:
    violation = FieldViolation("settings.prompt", Reason.TEXT_INVALID, description)
    error = InvalidArgument(message, violations=[violation] * count, metadata={"k": message})
    status = to_status(error)
    [(_, details)] = status.trailing_metadata
    encoded = sum(
        1 if " " <= c <= "~" and c != "%" else 3 * len(c.encode()) for c in status.details
    )
    assert len(details) * 4 / 3 + encoded < 8_000


def test_short_errors_are_not_cut() -> None:
    description = "Width is 100; it must be a multiple of 8 from 256 to 2048."
    violations = [
        FieldViolation(f"items[{i}].width", Reason.DIMENSIONS_INVALID, description)
        for i in range(20)
    ]
    status = rich_status(describe_failure(InvalidArgument("Bad.", violations=violations)))
    request = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(request)
    assert [v.description for v in request.field_violations] == [description] * 20


@given(st.text(max_size=200), st.integers(10, 120), st.booleans())
def test_cut_keeps_a_prefix_within_the_limit(text: str, longest: int, encoded: bool) -> None:
    result = cut(text, longest, percent_encoded=encoded)
    assert len(result.encode()) <= longest
    assert result == text or text.startswith(result.removesuffix("…"))
    if not encoded and len(text.encode("utf-8", "replace")) <= longest:
        assert result == text.encode("utf-8", "replace").decode()
