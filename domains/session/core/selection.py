"""What of a session's log a stream wants to hear."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from domains.session.turns import Paused, Resumed, Retried, Yielded
from domains.session.types import (
    Delivery,
    Entry,
    EventKind,
    ImageDecoded,
    ImageFinished,
    ItemFinished,
    Passing,
    PhaseStarted,
    PieceFinished,
    QueueMoved,
    SessionEvent,
    StepFinished,
    TextEncoded,
    TransferProgress,
)

# The first and the last entry are not among them: they always come.
_KINDS: Mapping[type, EventKind] = {
    QueueMoved: EventKind.QUEUE_MOVED,
    PhaseStarted: EventKind.PHASE_STARTED,
    TransferProgress: EventKind.TRANSFER_PROGRESS,
    TextEncoded: EventKind.TEXT_ENCODED,
    StepFinished: EventKind.STEP_FINISHED,
    PieceFinished: EventKind.ITEM_FINISHED,
    ImageDecoded: EventKind.IMAGE_DECODED,
    ImageFinished: EventKind.IMAGE_FINISHED,
    ItemFinished: EventKind.ITEM_FINISHED,
    Paused: EventKind.STATE_CHANGED,
    Resumed: EventKind.STATE_CHANGED,
    Yielded: EventKind.STATE_CHANGED,
    Retried: EventKind.STATE_CHANGED,
}


class Selection:
    """Chooses for one stream, entry by entry in their order.

    Args:
        delivery: What the stream asks for.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._kinds = delivery.kinds
        self._interval = timedelta(seconds=delivery.step_interval_seconds)
        self._last_steps: dict[int, datetime] = {}

    def wants(self, event: Entry | Passing) -> bool:
        """Whether events of its kind come."""
        kind = _KINDS.get(type(event))
        return kind is None or not self._kinds or kind in self._kinds

    def takes(self, entry: SessionEvent) -> bool:
        """Whether this entry comes; to be asked once for each."""
        event = entry.event
        if not self.wants(event):
            return False
        if not isinstance(event, StepFinished) or not self._interval:
            return True
        last = self._last_steps.get(event.image_index)
        # A clock that was set back is no reason to wait.
        soon = last is not None and timedelta() <= entry.event_time - last < self._interval
        if soon and event.step < event.steps:
            return False
        self._last_steps[event.image_index] = entry.event_time
        return True
