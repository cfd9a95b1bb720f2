"""Calls that have been answered and whose client has not taken the answer."""

from __future__ import annotations

from typing import Any

from domains.errors import Reason, ResourceExhausted
from domains.rooms import Room
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    whose,
    with_behaviour,
)

_RETRY_SECONDS = 1.0


class UntakenInterceptor(Interceptor):
    """Counts a call until its client has learned how it ended. gRPC does so too, of all that
    may be open: a client that asks and never reads would keep everybody else out, long after
    each of its calls was done. Refusals it takes in any case: nothing holds those up.

    Inside of what knows whose a call is.

    Args:
        known: Places of clients with a token.
        strangers: Those of everybody else, by where they call from.
    """

    def __init__(self, known: Room, strangers: Room) -> None:
        self._known, self._strangers = known, strangers

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)

        async def counted(request: Any, context: Context) -> Any:
            client, known = whose(context)
            room = self._known if known else self._strangers
            if not room.has_place_for(client):
                limit = room.limit_for(client)
                raise ResourceExhausted(
                    f"{limit} calls of this client are open, or answered and not read; read"
                    " what they came to, or try again shortly.",
                    reason=Reason.TOO_MANY_STREAMS,
                    metadata={"limit": str(limit)},
                    retry_after=_RETRY_SECONDS,
                )
            room.take(client)
            over: Any = lambda *_: room.give_back(client)  # noqa: E731 - a class in the stubs
            context.add_done_callback(over)
            return await inner(request, context)

        return with_behaviour(handler, counted)
