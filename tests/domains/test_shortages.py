"""What the system has no more of, read from errors."""

from __future__ import annotations

import errno

import pytest

from domains.errors import Reason, ResourceExhausted
from domains.shortages import shortage_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "full"), Reason.DISK_FULL),
        (OSError(errno.EDQUOT, "quota"), Reason.DISK_FULL),
        (OSError(errno.EMFILE, "files"), Reason.HOST_LIMIT_REACHED),
        (OSError(errno.ENFILE, "files"), Reason.HOST_LIMIT_REACHED),
        (OSError(errno.EAGAIN, "processes"), Reason.HOST_LIMIT_REACHED),
        (RuntimeError("can't start new thread"), Reason.HOST_LIMIT_REACHED),
        (OSError(errno.ENOMEM, "memory"), Reason.HOST_OUT_OF_MEMORY),
        (MemoryError(), Reason.HOST_OUT_OF_MEMORY),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            Reason.HOST_OUT_OF_MEMORY,
        ),
    ],
)
def test_what_runs_out_has_its_reason(error: Exception, reason: Reason) -> None:
    shortage = shortage_of(error)
    assert shortage is not None
    assert shortage.reason is reason


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "none"),
        RuntimeError("shapes"),
        ImportError("no torch"),
        KeyError(),
    ],
)
def test_other_errors_are_none(error: Exception) -> None:
    assert shortage_of(error) is None


def test_a_shortage_stays_itself() -> None:
    shortage = ResourceExhausted("Full.", reason=Reason.DISK_FULL)
    assert shortage_of(shortage) is shortage


def test_what_a_library_made_of_a_shortage_is_one() -> None:
    made = RuntimeError("Failed to import the model's class")
    made.__cause__ = ValueError("no such class")
    made.__cause__.__cause__ = ImportError("libx.so: failed to map segment")
    shortage = shortage_of(made)
    assert shortage is not None
    assert shortage.reason is Reason.HOST_OUT_OF_MEMORY
