"""How many calls may be open at once and for how long, and the end of all of them when the
server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from domains.errors import DeadlineExceeded, Reason, ResourceExhausted
from domains.rooms import Room
from domains.session.errors import ShuttingDown
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    refusal,
    whose,
    with_behaviour,
)
from server.interceptors.call_classes import CallClass, classify

_RETRY_WHEN_FULL_SECONDS = 1.0

Maximum = Callable[[CallClass, bool], float | None]
"""Longest time in seconds of a call of that class, by whether it streams; None: no end."""


def no_maximum(kind: CallClass, streams: bool) -> float | None:
    """Calls may take as long as they like."""
    return None


class TookTooLong(DeadlineExceeded):
    """A call was open for as long as the server lets any of its kind be."""

    def __init__(self, kind: CallClass, seconds: float) -> None:
        super().__init__(
            f"The server ends a call of this kind after {seconds:g} s; call again if need be.",
            metadata={"call_class": kind.value, "maximum_seconds": f"{seconds:g}"},
        )


class Admission:
    """Counts the open calls of a server and decides about new ones.

    Args:
        rooms: Places of each class for open calls; a class that is missing has no limit.
    """

    def __init__(self, rooms: Mapping[CallClass, Room]) -> None:
        self._rooms = rooms
        self._busy = 0
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

    def check(self, kind: CallClass, client: str = "") -> None:
        """Raise ResourceExhausted or ShuttingDown unless one more such call may begin.

        Args:
            kind: The call's class.
            client: Whose it is, among those whom the class's room keeps apart.
        """
        if self._draining and not kind.health:
            raise ShuttingDown()
        room = self._rooms.get(kind)
        if room is None or room.has_place_for(client):
            return
        limit = room.limit_for(client)
        whose = "Too many calls of this kind are open"
        if not room.alone(client):
            whose = "This client has as many calls of this kind open as it may, or all have"
        raise ResourceExhausted(
            f"{whose}; close some, or try again shortly.",
            reason=Reason.TOO_MANY_STREAMS,
            metadata={"limit": str(limit), "call_class": kind.value},
            retry_after=_RETRY_WHEN_FULL_SECONDS,
        )

    def begin(self, kind: CallClass, client: str = "") -> asyncio.Task[Any]:
        """Count a call that runs in the current task."""
        task = asyncio.current_task()
        assert task is not None
        if kind in self._rooms:
            self._rooms[kind].take(client)
        self._tasks.add(task)
        if not kind.endless:
            self._busy += 1
            self._idle.clear()
        return task

    def finish(self, kind: CallClass, task: asyncio.Task[Any], client: str = "") -> None:
        """Count it no more."""
        if kind in self._rooms:
            self._rooms[kind].give_back(client)
        self._tasks.discard(task)
        self._ended.discard(task)
        if not kind.endless:
            self._busy -= 1
            if self._busy == 0:
                self._idle.set()

    def was_ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether `end_all` cancelled it, and not its client."""
        return task in self._ended


class AdmissionInterceptor(Interceptor):
    """Outside of what reads requests: a call is counted before a byte of it is asked for.
    Inside of what knows whose a call is.

    Args:
        admission: Counts the calls.
        maximum: How long a call may be open.
    """

    def __init__(self, admission: Admission, maximum: Maximum = no_maximum) -> None:
        self._admission = admission
        self._maximum = maximum

    def wrap(self, handler: Handler, method: str) -> Handler:
        if self._admission.draining and not classify(method).health:
            return refusal(ShuttingDown())
        inner = behaviour_of(handler)
        admission = self._admission
        streams = handler.request_streaming or handler.response_streaming

        async def admitted(request: Any, context: Context) -> Any:
            client, known = whose(context)
            kind = classify(method, known=known)
            admission.check(kind, client)
            maximum = self._maximum(kind, streams)
            task = admission.begin(kind, client)
            limit = asyncio.timeout(maximum)
            try:
                async with limit:
                    return await inner(request, context)
            except TimeoutError:
                if maximum is None or not limit.expired():
                    raise
                raise TookTooLong(kind, maximum) from None
            except asyncio.CancelledError:
                if not admission.was_ended(task):
                    raise
                task.uncancel()
                raise ShuttingDown() from None
            finally:
                admission.finish(kind, task, client)

        return with_behaviour(handler, admitted)
