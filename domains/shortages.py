"""What the system has no more of, read from the errors with which it says so."""

from __future__ import annotations

import errno
import re

from domains.errors import Reason, ResourceExhausted

# The last one is a limit on how large files may become, of the system or of the process.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FILES = frozenset({errno.EMFILE, errno.ENFILE})
# How the loader says that a library does not fit in memory, without a number.
_NO_ROOM = re.compile(
    r"failed to map segment|cannot allocate memory|paging file is too small", re.IGNORECASE
)
_COMMITMENT_LIMIT = 1455
"""Windows promises no more memory; Python has no `errno` for that but EINVAL."""
_NO_THREAD = "can't start new thread"


def shortage_of(error: BaseException) -> ResourceExhausted | None:
    """The shortage that an exception stands for; None when it is none.

    Everything that it names comes back by itself: trying again later is worthwhile. What a
    library raised because of a shortage stands for it too.
    """
    cause: BaseException | None = error
    while cause is not None:
        shortage = _shortage(cause)
        if shortage is not None:
            return shortage
        cause = cause.__cause__
    return None


def _shortage(error: BaseException) -> ResourceExhausted | None:
    if isinstance(error, ResourceExhausted):
        return error
    if isinstance(error, MemoryError):
        return _memory()
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return _limit("threads", "threads")
    if isinstance(error, ImportError | OSError) and _NO_ROOM.search(str(error)):
        return _memory()
    if not isinstance(error, OSError):
        return None
    if error.errno in _DISK:
        message = "The server's disk is full; free some space and try again."
        return ResourceExhausted(message, reason=Reason.DISK_FULL)
    if error.errno in _FILES:
        return _limit("files", "open files")
    if error.errno == errno.EAGAIN:  # what starting a process ends with
        return _limit("processes", "processes")
    no_memory = error.errno == errno.ENOMEM or _winerror(error) == _COMMITMENT_LIMIT
    return _memory() if no_memory else None


def _winerror(error: OSError) -> int | None:
    """The number that Windows gave, which Python's `errno` is coarser than."""
    return getattr(error, "winerror", None)


def _memory() -> ResourceExhausted:
    return ResourceExhausted(
        "The server's main memory does not suffice.", reason=Reason.HOST_OUT_OF_MEMORY
    )


def _limit(resource: str, words: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"The system lets the server have no more {words}; try again in a moment, or raise"
        " the limit.",
        reason=Reason.HOST_LIMIT_REACHED,
        metadata={"resource": resource},
        retry_after=5.0,
    )
