"""Ends streams whose client has stopped reading, so that they hold nothing for long.

Flow control stops a stream after a few megabytes; without an end to the patience, a
client that hangs would keep its generator and its place among the calls for ever. Both
are given back at once. The call itself can end only when the waiting message has been
taken, since a status cannot overtake it: a client that reads again learns why.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import structlog

from domains.clients import caller
from domains.errors import Reason, ResourceExhausted
from domains.rooms import Room
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    let_go,
    with_behaviour,
)

_MOST_UNREAD = 64

_log = structlog.get_logger("deviceops.calls")


class StallInterceptor(Interceptor):
    """Outside of admission, so that a stalled call does not count as open.

    What has not been read keeps a chunk in memory until its client reads or leaves: a
    client that leaves many streams so gets no new ones.

    Args:
        patience_seconds: How long one message may wait for its client.
        unread: Places for streams that were ended and not read.
    """

    def __init__(self, patience_seconds: float, unread: Room | None = None) -> None:
        self._patience_seconds = patience_seconds
        self._unread = unread or Room(_MOST_UNREAD)

    def wrap(self, handler: Handler, method: str) -> Handler:
        if not handler.response_streaming:
            return handler
        inner = behaviour_of(handler)
        patience = self._patience_seconds

        async def bounded(request: Any, context: Context) -> Any:
            client = caller().name
            if not self._unread.has_place_for(client):
                raise TooManyUnread(self._unread.limit_for(client))
            bounded_context = _BoundedContext(context, patience)
            try:
                return await inner(request, cast("Context", bounded_context))
            except _Stalled as stalled:
                _log.warning("slow_reader", seconds=patience)
                await self._until_read(stalled, client)
                raise ResourceExhausted(
                    f"The client read nothing for {patience:g} s, so its stream was ended;"
                    " a detached session goes on and can be watched again.",
                    reason=Reason.SLOW_READER,
                    retry_after=1.0,
                ) from None
            except asyncio.CancelledError:
                await bounded_context.let_take()
                raise
            finally:
                bounded_context.close()

        return with_behaviour(handler, bounded)

    async def _until_read(self, stalled: _Stalled, client: str) -> None:
        let_go(stalled)
        self._unread.take(client)
        try:
            await stalled.pending
        finally:
            self._unread.give_back(client)


class TooManyUnread(ResourceExhausted):
    """A client opens streams and does not read them."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This client has left {limit} streams unread that were ended for it; read or"
            " close them before opening more.",
            reason=Reason.SLOW_READER,
            metadata={"unread_streams": str(limit)},
            retry_after=1.0,
        )


class _Stalled(Exception):
    """A message is not taken; `pending` is its sending, which must not be broken off."""

    def __init__(self, pending: asyncio.Task[None]) -> None:
        super().__init__("the client does not read")
        self.pending = pending


class _BoundedContext:
    """The call's context, with an end to waiting in `write`.

    One timer for a stream looks whether its message has waited too long: one for each message
    would be a quarter of what a small message costs.
    """

    def __init__(self, context: Context, patience_seconds: float) -> None:
        self._context = context
        self._patience_seconds = patience_seconds
        self._loop = asyncio.get_running_loop()
        self._sending: asyncio.Task[None] | None = None  # the message that waits
        self._taken: asyncio.Future[bool] | None = None
        self._since = 0.0
        self._watch: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Send a message; raises `_Stalled` when the client does not take it in time."""
        self._sending = sending = asyncio.ensure_future(self._send(message))
        self._taken = taken = self._loop.create_future()
        sending.add_done_callback(partial(_take, taken))
        self._since = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience_seconds, self._look)
        if not await taken:
            raise _Stalled(sending)
        sending.result()

    async def let_take(self) -> None:
        """Wait for the message under way, at most as long as it may take.

        For a call that was ended here, once it holds nothing more: its client is to be told
        why, and that cannot overtake the message.
        """
        if self._sending is None:
            return
        left = self._since + self._patience_seconds - self._loop.time()
        try:
            await asyncio.wait({self._sending}, timeout=max(left, 0.0))
        finally:
            self._sending.cancel()

    def close(self) -> None:
        """Nothing is written any more."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        self._watch = None
        if self._taken is None or self._taken.done():  # the next message is watched anew
            return
        left = self._since + self._patience_seconds - self._loop.time()
        if left > 0.0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._taken.set_result(False)

    async def _send(self, message: Any) -> None:
        await self._context.write(message)


def _take(taken: asyncio.Future[bool], sending: asyncio.Task[None]) -> None:
    """A message was sent, or could not be."""
    if not taken.done():
        taken.set_result(True)
