"""Work in the background: what a domain keeps doing for as long as the server runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Loop:
    """One piece of background work.

    Args:
        name: What the log calls it.
        interval: Seconds from the end of a round to the beginning of the next.
        work: One round. What it raises is logged, and the next round comes all the same.
    """

    name: str
    interval: float
    work: Callable[[], Awaitable[object]]
