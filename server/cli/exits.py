"""Exit codes: what scripts that call `deviceops` can tell apart."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    FAILED = 1  # anything that has no code of its own
    BAD_INPUT = 2  # the request or the options can never work as written
    UNAVAILABLE = 3  # no server answers, or what it needs is gone for now
    NOT_FOUND = 4
    EXHAUSTED = 5  # memory, disk, a queue or a quota is full
    CANCELLED = 130  # as shells report a process ended by Ctrl-C


# Keyed by the name of the gRPC status code, so that this file needs no grpc.
_BY_STATUS = {
    "OK": Exit.OK,
    "INVALID_ARGUMENT": Exit.BAD_INPUT,
    "OUT_OF_RANGE": Exit.BAD_INPUT,
    "ALREADY_EXISTS": Exit.BAD_INPUT,
    "UNAVAILABLE": Exit.UNAVAILABLE,
    "NOT_FOUND": Exit.NOT_FOUND,
    "RESOURCE_EXHAUSTED": Exit.EXHAUSTED,
    "CANCELLED": Exit.CANCELLED,
}


def exit_for(status: str) -> Exit:
    """The exit code for a gRPC status code's name; FAILED for those without their own."""
    return _BY_STATUS.get(status, Exit.FAILED)
