"""A second try for what memory was short for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from domains.device.backends import faults

Result = TypeVar("Result")


def with_room(act: Callable[[], Result], make_room: Callable[[], None]) -> Result:
    """Run `act`; when memory runs out, make room and run it once more.

    Args:
        act: Must give the same result every time and change nothing.
        make_room: Lets go of what can be had again.

    Raises:
        Exception: Whatever `act` raises, at the second time when memory ran out.
    """
    try:
        return act()
    except Exception as error:
        if not faults.is_shortage(error):
            raise
        faults.drop_frames(error)
    # Out here nothing refers to the failed call's tensors any more.
    make_room()
    return act()
