"""What an error that nobody expected means: a defect of the program, or the device's end."""

from __future__ import annotations

from collections.abc import Callable

from domains.device.errors import DeviceLost
from domains.errors import Failure, Internal


def failure_of_unexpected(computes: Callable[[], bool]) -> Failure:
    """What the front hears; the error itself is for the log.

    Args:
        computes: Whether the device still works; a broken one raises anything from anywhere.
    """
    if not computes():
        return DeviceLost().failure()
    return Internal("The worker failed; the log says more.").failure()
