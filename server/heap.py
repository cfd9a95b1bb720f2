"""Gives memory that the front freed back to the system, time and again."""

from __future__ import annotations

import asyncio

from domains.heap import trim
from domains.loops import Loop

_INTERVAL_SECONDS = 10.0


async def _trim() -> None:
    await asyncio.to_thread(trim)


LOOPS = (Loop("heap", _INTERVAL_SECONDS, _trim),)
"""To be run in the background."""
