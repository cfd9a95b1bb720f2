"""Work in the background: what a domain keeps doing for as long as the server runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_PAUSE_SECONDS = 1.0

_log = logging.getLogger(__name__)


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


async def kept(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`, again after a pause for as long as it raises; returns when it ends.

    Args:
        name: What the log calls it.
        work: Something that others rely on and nobody waits for. A cancellation ends it.
    """
    while True:
        try:
            await work()
        except Exception:
            _log.exception("%s failed and is begun again", name)
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return
