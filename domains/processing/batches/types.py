"""Values of batches: what is asked for, what is kept, how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Count, ModelId, Moment, Name, Seconds, Text, Value
from domains.device.types import ANY_DEVICE, DeviceChoice
from domains.errors import Failure
from domains.limits import default_of
from domains.records import LARGEST_BYTES
from domains.session.types import ImageResult, ItemId, Seed, SessionState, WorkOptions
from domains.values import ModelContent

MOST_ITEMS = 100_000
"""Of one batch."""
_Bytes = Annotated[bytes, Meta(max_length=LARGEST_BYTES)]
_Few = Meta(max_length=9)


class Computation(Enum):
    """How items of a batch are computed."""

    EXACT = "exact"
    THROUGHPUT = "throughput"


@dataclass(frozen=True)
class Retry:
    """How often each item is tried, and the seconds before the second try, which double."""

    max_attempts: int = int(default_of("RetrySettings.max_attempts"))
    backoff_seconds: float = default_of("RetrySettings.backoff")

    def pause_after(self, attempts: int) -> float:
        """Seconds before the next try after so many of them, from 1."""
        return self.backoff_seconds * 2.0 ** (attempts - 1)


@dataclass(frozen=True)
class Manner:
    """How the items of a batch are worked off.

    `max_parallel` is how many run at once, None as many as there are devices; `max_failures`
    after how many failed ones the rest is cancelled, None never; it counts anew when items are
    to run again.
    """

    devices: DeviceChoice = ANY_DEVICE
    item_run_seconds: float = default_of("CreateBatchRequest.item_run_timeout")
    max_failures: int | None = None
    max_parallel: int | None = None
    retry: Retry = Retry()
    computation: Computation = Computation.EXACT


@dataclass(frozen=True)
class ItemWork:
    """What an item is to do: an overlay of the contract in bytes, empty for the template as it
    stands; None for a combination of the template's matrix, which its name tells. With an
    `image`, in bytes as the contract names one, it draws nothing and finishes that. `path` is
    where it stands in the request that brings it."""

    item_id: str
    overlay: bytes | None
    path: str = ""
    image: bytes | None = None

    @property
    def held_bytes(self) -> int:
        """What is kept of it."""
        return len(self.overlay or b"") + len(self.image or b"")


class Settled(Value, frozen=True):
    """What a work leaves open, decided once and for all when it is accepted; one that draws
    nothing has no seeds. `contents` are those of the models that it was accepted for; a version
    before noted none."""

    seeds: Annotated[tuple[Seed, ...], _Few]
    model_id: ModelId
    contents: Annotated[tuple[ModelContent, ...], Meta(max_length=1_000)] = ()

    def agrees_with(self, other: Settled) -> bool:
        """Whether no model has other content in one than in the other."""
        mine = {content.model_id: content for content in self.contents}
        return all(mine.get(each.model_id, each) == each for each in other.contents)


@dataclass(frozen=True)
class BatchRequest:
    """One call that makes a batch.

    `template` is the request in bytes, without its items. `matrix` says that items are its
    combinations.
    """

    template: bytes
    items: tuple[ItemWork, ...]
    matrix: bool
    keep_open: bool
    manner: Manner
    options: WorkOptions
    digest: bytes


class ItemRecord(Value, frozen=True):
    """An item as it is kept: what it does, and what it has come to so far.

    `worked_seconds` is how long its batch had been worked on when it ended.
    """

    batch_id: Name
    position: Count
    item_id: ItemId
    overlay: _Bytes | None
    settled: Settled
    state: SessionState = SessionState.QUEUED
    attempts: Count = 0
    attempts_before: Count = 0
    session_id: Text = ""
    images: Annotated[tuple[ImageResult, ...], _Few] = ()
    failure: Failure | None = None
    worked_seconds: Seconds = 0.0
    image: _Bytes | None = None


class BatchRecord(Value, frozen=True):
    """A batch as it is kept, beside its items. `template` is the request that made it, and
    `first_session_id` the session that did, once another one works it off. `failures_before`
    is how many items had failed, and stayed so, when some last were to run again."""

    batch_id: Name
    owner: Text
    session_id: Name
    template: _Bytes
    sealed: bool
    create_time: Moment
    number: Count
    manner: Manner
    end_reason: Text = ""
    first_session_id: Text = ""
    failures_before: Count = 0


@dataclass(frozen=True)
class ItemStatus:
    """How an item stands; `attempts` counts the one that runs."""

    item_id: str
    state: SessionState
    session_id: str
    images: tuple[ImageResult, ...]
    failure: Failure | None
    attempts: int


@dataclass(frozen=True)
class BatchStatus:
    """How a batch stands. `remaining_seconds` is None while nobody knows."""

    batch_id: str
    session_id: str
    state: SessionState
    sealed: bool
    items: int
    completed: int
    failed: int
    cancelled: int
    create_time: datetime
    end_time: datetime | None
    remaining_seconds: float | None
    options: WorkOptions
    owner: str
    end_reason: str
