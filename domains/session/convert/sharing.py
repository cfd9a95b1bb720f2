"""Messages of events that several streams send: each is made once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar, cast

from google.protobuf.message import Message

from deviceops.v1 import event_pb2
from domains.session.types import Passing, SessionEvent

R = TypeVar("R", bound=Message)
_KEPT = 32
"""The newest ones. Those who keep up with a session send an entry at the same time; those of
more sessions than this, and those who are behind, have theirs made for themselves."""


class SharedResponses:
    """Responses that hold an event in their field `event`; whoever gets one does not change it.

    A hundred who watch one session would else have each of its entries converted a hundred
    times. What passes (pictures' bytes, previews, heartbeats) is no log's entry, is large or
    differs by stream, and is made for each.

    Args:
        convert: An event as its message.
    """

    def __init__(self, convert: Callable[[SessionEvent], event_pb2.SessionEvent]) -> None:
        self._convert = convert
        # By the entry itself, which is kept with it so that none other has its id.
        self._made: OrderedDict[tuple[int, type], tuple[SessionEvent, Message]] = OrderedDict()

    def of(self, event: SessionEvent, response: type[R]) -> R:
        """An event as a response of that type."""
        if isinstance(event.event, Passing):
            return response(event=self._convert(event))
        key = id(event), response
        found = self._made.get(key)
        if found is not None:
            return cast("R", found[1])
        made = response(event=self._convert(event))
        self._made[key] = event, made
        if len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return made
