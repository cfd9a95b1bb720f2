"""What a refusal of one picture means for the others of a command."""

from __future__ import annotations

from dataclasses import replace

from server.cli.choices import UnusableOptions
from server.cli.failures import CallFailed, CallFailure

_OF_ALL = ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "CANCELLED")
"""Refusals that every other picture would meet with as well."""


def failure_of(picture: str, error: CallFailed | UnusableOptions) -> CallFailure | None:
    """Why this picture failed, by its name; None where no other one would work either."""
    if isinstance(error, UnusableOptions):  # which name it
        return CallFailure(status="INVALID_ARGUMENT", message=str(error))
    failure = error.failure
    if not failure.from_server or failure.status in _OF_ALL:
        return None
    return replace(failure, message=f"{picture}: {failure.message}")
