"""Whether a call that its client dropped had come to its deadline.

A client ends its call at its own deadline, often before the server sees the same moment: the
time left travels rounded up by as much as a hundredth, and then it takes its way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

_ROUNDED_SHARE = 0.02
_TRAVEL_SECONDS = 0.1


class Call(Protocol):
    """What is needed of a call's context."""

    def time_remaining(self) -> float | None:
        """Seconds until the call's deadline; None without one."""
        ...


def deadline_of(call: Call) -> Callable[[], bool]:
    """Whether the call, which just ended, ended because its deadline passed; to be made when it
    begins."""
    whole = call.time_remaining()

    def passed() -> bool:
        left = call.time_remaining()
        if whole is None or left is None:
            return False
        return left <= max(_TRAVEL_SECONDS, whole * _ROUNDED_SHARE)

    return passed
