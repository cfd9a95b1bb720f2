"""Entries of a session's log about its turns on its device: where one ends early, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from domains.errors import Failure


class YieldReason(Enum):
    """Why a session that ran lets another one run."""

    HIGHER_PRIORITY = "higher-priority"
    TIME_SLICE = "time-slice"


@dataclass(frozen=True)
class Paused:
    """The session stopped between two steps, to be resumed.

    `reason_text` is what the client `paused_by` gave as its reason.
    """

    reason_text: str = ""
    paused_by: str = ""


@dataclass(frozen=True)
class Resumed:
    """The session goes on, as the client `resumed_by` asked; it waits in its queue first."""

    resumed_by: str = ""


@dataclass(frozen=True)
class Yielded:
    """The session stopped between two steps so that another one runs, and waits again.

    `kept_steps` are those of the picture at work that are kept; `queue_position` is how many
    sessions are before it now.
    """

    reason: YieldReason
    kept_steps: int = 0
    queue_position: int = 0


@dataclass(frozen=True)
class Retried:
    """What did the session's work was lost, and the work starts over; it waits in its queue
    first. `retry_count` is how often it has, from 1."""

    cause: Failure
    retry_count: int
