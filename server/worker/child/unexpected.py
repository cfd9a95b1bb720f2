"""What an error that nobody expected means: a want, the device's end, or a defect."""

from __future__ import annotations

from collections.abc import Callable

from domains.device.errors import DeviceLost
from domains.errors import Failure, Internal
from domains.shortages import shortage_of


def failure_of_unexpected(error: Exception, computes: Callable[[], bool]) -> Failure:
    """What the front hears; the error itself is for the log.

    Args:
        error: What was raised.
        computes: Whether the device still works; a broken one raises anything from anywhere.
    """
    shortage = shortage_of(error)
    if shortage is not None:
        return shortage.failure()
    if not computes():
        return DeviceLost().failure()
    return Internal("The worker failed; the log says more.").failure()
