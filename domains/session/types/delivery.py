"""How a session's events come to one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from domains.codec import Count, Value
from domains.limits import default_of


class PreviewSettings(Value, frozen=True):
    """`every_steps` 0 means none; `max_edge_pixels` is the longer side."""

    every_steps: Count = 0
    max_edge_pixels: Count = int(default_of("PreviewSettings.max_edge_pixels"))


class EventKind(Enum):
    """Kinds of log entries that a stream can be asked for."""

    QUEUE_MOVED = "queue-moved"
    PHASE_STARTED = "phase-started"
    TRANSFER_PROGRESS = "transfer-progress"
    TEXT_ENCODED = "text-encoded"
    STEP_FINISHED = "step-finished"
    IMAGE_DECODED = "image-decoded"
    IMAGE_FINISHED = "image-finished"
    ITEM_FINISHED = "item-finished"
    STATE_CHANGED = "state-changed"


@dataclass(frozen=True)
class Delivery:
    """How a session's events come to one stream; no part of what the work is.

    The first and the last entry always come; `kinds` is empty for all others too. Between
    two steps of one picture, its last one aside, lie `step_interval_seconds` at least.
    """

    image_data: bool = True
    previews: PreviewSettings = field(default_factory=PreviewSettings)
    kinds: tuple[EventKind, ...] = ()
    step_interval_seconds: float = 0.0


ENTRIES = Delivery(image_data=False)
"""Every entry of the log, as it comes, and nothing beside it."""
