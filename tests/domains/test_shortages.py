"""What the system has no more of, by the errors with which it says so."""

from __future__ import annotations

import errno
import os

import pytest

from domains.errors import Reason, ResourceExhausted
from domains.shortages import shortage_of


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def windows(number: int, words: str) -> OSError:
    """As Python raises it there of numbers that it has no other for."""
    error = OSError(errno.EINVAL, words)
    error.winerror = number  # type: ignore[attr-defined,unused-ignore]
    return error


@pytest.mark.parametrize(
    ("error", "reason", "resource"),
    [
        (system(errno.EMFILE), Reason.HOST_LIMIT_REACHED, "files"),
        (system(errno.ENFILE), Reason.HOST_LIMIT_REACHED, "files"),
        (system(errno.EAGAIN), Reason.HOST_LIMIT_REACHED, "processes"),
        (RuntimeError("can't start new thread"), Reason.HOST_LIMIT_REACHED, "threads"),
        (system(errno.ENOMEM), Reason.HOST_OUT_OF_MEMORY, None),
        (windows(1455, "页面文件太小，无法完成操作。"), Reason.HOST_OUT_OF_MEMORY, None),
        (
            ImportError("DLL load failed while importing _C: The paging file is too small."),
            Reason.HOST_OUT_OF_MEMORY,
            None,
        ),
        (MemoryError(), Reason.HOST_OUT_OF_MEMORY, None),
        (ImportError("x.so: failed to map segment"), Reason.HOST_OUT_OF_MEMORY, None),
        (system(errno.ENOSPC), Reason.DISK_FULL, None),
        (system(errno.EDQUOT), Reason.DISK_FULL, None),
    ],
)
def test_a_lack_is_told_by_its_name(
    error: Exception, reason: Reason, resource: str | None
) -> None:
    found = shortage_of(error)
    assert found is not None
    assert found.reason is reason
    assert found.metadata.get("resource") == resource


@pytest.mark.parametrize(
    "error",
    [
        system(errno.EACCES),
        system(errno.EINVAL),
        windows(87, "The parameter is incorrect"),
        RuntimeError("else"),
        ImportError("no torch"),
        ValueError(),
        KeyError(),
    ],
)
def test_anything_else_is_none(error: Exception) -> None:
    assert shortage_of(error) is None


def test_what_says_so_already_stays() -> None:
    error = ResourceExhausted("No.", reason=Reason.DEVICE_OUT_OF_MEMORY)
    assert shortage_of(error) is error


def test_what_a_library_made_of_a_lack_is_one() -> None:
    made = RuntimeError("Failed to import the model's class")
    made.__cause__ = ValueError("no such class")
    made.__cause__.__cause__ = ImportError("libx.so: failed to map segment")
    found = shortage_of(made)
    assert found is not None
    assert found.reason is Reason.HOST_OUT_OF_MEMORY
