"""Which session the task that runs is at work for, so that lines of the log can say so.

What outlives the call that happened to begin it, as a queue does, has a task of its own
context: nothing that it does is of that call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AtWork:
    """A session whose turn it is: its id, and whose it is."""

    session_id: str
    owner: str


_AT_WORK: ContextVar[AtWork | None] = ContextVar("at-work", default=None)


def at_work() -> AtWork | None:
    """What the task that this runs in is at work for; None where it is no session's turn."""
    return _AT_WORK.get()


@contextlib.contextmanager
def working(for_whom: AtWork) -> Iterator[None]:
    """Let `at_work()` be that for what runs in this block, and for tasks begun in it."""
    before = _AT_WORK.set(for_whom)
    try:
        yield
    finally:
        _AT_WORK.reset(before)


def task_of_no_call(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """A task that knows nothing of the call in which it is begun."""
    return asyncio.create_task(work, name=name, context=Context())
