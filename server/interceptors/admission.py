"""How many calls may be open at once, and the end of all of them when the server stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from domains.errors import Reason, ResourceExhausted
from domains.session.errors import ShuttingDown
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    refusal,
    with_behaviour,
)
from server.interceptors.call_classes import CallClass, classify

_RETRY_WHEN_FULL_SECONDS = 1.0


# A drain does not wait for these: watches have no end to wait for.
_ENDLESS = (CallClass.HEALTH, CallClass.WATCH)


class Admission:
    """Counts the open calls of a server and decides about new ones.

    Args:
        limits: Most open calls of each class; a class that is missing has no limit.
    """

    def __init__(self, limits: Mapping[CallClass, int]) -> None:
        self._limits = limits
        self._open: Counter[CallClass] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether only health is answered."""
        return self._draining

    def drain(self) -> None:
        """Refuse new calls from now on; open ones go on."""
        self._draining = True

    async def idle(self) -> None:
        """Wait until no call is open that has an end to wait for."""
        await self._idle.wait()

    def end_all(self) -> None:
        """End every open call with UNAVAILABLE (SHUTTING_DOWN)."""
        for task in self._tasks - self._ended:
            self._ended.add(task)
            task.cancel()

    def check(self, kind: CallClass) -> None:
        """Raise ResourceExhausted or ShuttingDown unless one more such call may begin."""
        if kind is CallClass.HEALTH:
            return
        if self._draining:
            raise ShuttingDown()
        limit = self._limits.get(kind)
        if limit is not None and self._open[kind] >= limit:
            raise ResourceExhausted(
                "Too many calls of this kind are open; close some, or try again shortly.",
                reason=Reason.TOO_MANY_STREAMS,
                metadata={"limit": str(limit), "call_class": kind.value},
                retry_after=_RETRY_WHEN_FULL_SECONDS,
            )

    def begin(self, kind: CallClass) -> asyncio.Task[Any]:
        """Count a call that runs in the current task."""
        task = asyncio.current_task()
        assert task is not None
        self._open[kind] += 1
        self._tasks.add(task)
        if kind not in _ENDLESS:
            self._idle.clear()
        return task

    def finish(self, kind: CallClass, task: asyncio.Task[Any]) -> None:
        """Count it no more."""
        self._open[kind] -= 1
        self._tasks.discard(task)
        self._ended.discard(task)
        if not any(count for kind, count in self._open.items() if kind not in _ENDLESS):
            self._idle.set()

    def was_ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether `end_all` cancelled it, and not its client."""
        return task in self._ended


class AdmissionInterceptor(Interceptor):
    """Innermost: counts only calls that could be authenticated."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def wrap(self, handler: Handler, method: str) -> Handler:
        kind = classify(method)
        if self._admission.draining and kind is not CallClass.HEALTH:
            return refusal(ShuttingDown())
        inner = behaviour_of(handler)
        admission = self._admission

        async def admitted(request: Any, context: Context) -> Any:
            admission.check(kind)
            task = admission.begin(kind)
            try:
                return await inner(request, context)
            except asyncio.CancelledError:
                if not admission.was_ended(task):
                    raise
                task.uncancel()
                raise ShuttingDown() from None
            finally:
                admission.finish(kind, task)

        return with_behaviour(handler, admitted)
