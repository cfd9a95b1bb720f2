"""Counts and times of generations by device, model and batch size. They outlive the server."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from domains.clock import Clock
from domains.codec import Count, ModelId, Moment, Name, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.inference.ports import Devices, Models
from domains.session.core.durations import Durations, Total
from domains.session.core.session import Session
from domains.session.core.times import Spell
from domains.session.types import (
    Completed,
    Phase,
    SessionKind,
    SessionState,
    StepFinished,
    TextEncoded,
)

_KEY = "inference.statistics"
_MOST_PAIRS = 64
_MOST_KEPT = 128
"""Of pairs of device and model, and of accounts; beyond it what was used longest ago is
forgotten."""

Key = TypeVar("Key")
_Key = tuple[str, str, int]
"""A device, a model, a batch size."""


class Timed(Enum):
    """What is timed; the values are the contract's names."""

    QUEUE = "queue"
    WORK = "work"
    LOAD = "load"
    ENCODE_TEXT = "encode_text"
    PREPARE_INPUT = "prepare_input"
    STEP = "step"
    DECODE = "decode"
    ENCODE_IMAGE = "encode_image"
    CANCEL = "cancel"


_ONCE = {
    Timed.LOAD: Phase.LOADING_MODEL,
    Timed.ENCODE_TEXT: Phase.ENCODING_TEXT,
    Timed.PREPARE_INPUT: Phase.PREPARING_INPUT,
}
_PER_PICTURE = {Timed.DECODE: Phase.DECODING, Timed.ENCODE_IMAGE: Phase.ENCODING_IMAGE}


class Account(Value, frozen=True):
    """What generations of so many pictures with a model on a device came to, from the first
    that ended on. A `batch_size` of 0 is of a version that did not tell them apart."""

    device_id: Name
    model_id: ModelId
    since: Moment
    batch_size: Count = 0
    completed: Total = 0
    failed: Total = 0
    cancelled: Total = 0
    images: Total = 0
    text_cache_hits: Total = 0
    times: Annotated[Mapping[Timed, Durations], Meta(max_length=len(Timed))] = {}


@dataclass(frozen=True)
class Statistics:
    """Sums over accounts, of which there may be none, the one used last first."""

    accounts: tuple[Account, ...] = ()

    @property
    def since(self) -> datetime | None:
        """When the first of them ended."""
        return min((one.since for one in self.accounts), default=None)

    @property
    def completed(self) -> int:
        """Sessions that completed."""
        return sum(one.completed for one in self.accounts)

    @property
    def failed(self) -> int:
        """Sessions that failed."""
        return sum(one.failed for one in self.accounts)

    @property
    def cancelled(self) -> int:
        """Sessions that were cancelled."""
        return sum(one.cancelled for one in self.accounts)

    @property
    def images(self) -> int:
        """Finished pictures."""
        return sum(one.images for one in self.accounts)

    @property
    def text_cache_hits(self) -> int:
        """Prompts whose embeddings were used again."""
        return sum(one.text_cache_hits for one in self.accounts)

    def of(self, timed: Timed) -> Durations:
        """The times of all."""
        total = Durations()
        for account in self.accounts:
            total = total.and_of(account.times.get(timed, Durations()))
        return total

    def by_model(self) -> dict[tuple[str, str], Statistics]:
        """By device and model, the pair used last first."""
        return self._by(lambda one: (one.device_id, one.model_id))

    def by_batch_size(self) -> dict[int, Statistics]:
        """By the pictures that were asked for in a session, the fewest first."""
        found = self._by(lambda one: one.batch_size)
        return {size: found[size] for size in sorted(found) if size}

    def _by(self, key: Callable[[Account], Key]) -> dict[Key, Statistics]:
        groups: dict[Key, list[Account]] = {}
        for account in self.accounts:
            groups.setdefault(key(account), []).append(account)
        return {one: Statistics(tuple(accounts)) for one, accounts in groups.items()}


class StatisticsKeeper:
    """Learns from every generation that ends.

    Args:
        facts: Keeps the accounts. It is read at first need.
        clock: The time.
    """

    def __init__(self, facts: FactsStore, clock: Clock) -> None:
        self._facts = facts
        self._clock = clock
        self._read: OrderedDict[_Key, Account] | None = None
        self._changed = False

    def note(self, session: Session) -> None:
        """A generation has ended."""
        key = (session.device_id, session.model_id, session.done.image_count)
        account = self._accounts.get(key) or Account(
            session.device_id,
            session.model_id,
            since=self._clock.wall(),
            batch_size=session.done.image_count,
        )
        times = dict(account.times)
        for timed, seconds in _times_of(session):
            times[timed] = times.get(timed, Durations()).with_time(seconds)
        entries = session.log.entries()
        state = session.state
        self._accounts[key] = replace(
            account,
            completed=account.completed + (state is SessionState.COMPLETED),
            failed=account.failed + (state is SessionState.FAILED),
            cancelled=account.cancelled + (state is SessionState.CANCELLED),
            images=account.images + len(session.images),
            text_cache_hits=account.text_cache_hits + entries.count(TextEncoded(cached=True)),
            times=times,
        )
        self._accounts.move_to_end(key)
        self._forget()
        self._changed = True

    def accounts(self, device_id: str, model_id: str) -> tuple[Account, ...]:
        """Those of a device and a model, "" for any, the one used last first."""
        return tuple(
            one
            for one in reversed(self._accounts.values())
            if device_id in ("", one.device_id) and model_id in ("", one.model_id)
        )

    async def save(self) -> None:
        """Have what is new outlive the server; nothing where nothing is. To be called now and
        then, and at the end."""
        if self._changed:
            self._changed = False
            accounts = tuple(self._accounts.values())
            await asyncio.to_thread(kept.note, self._facts, _KEY, accounts)

    def _forget(self) -> None:
        """What is beyond the bounds, which one more account may have come to."""
        if len(self._accounts) > _MOST_KEPT:
            self._accounts.popitem(last=False)
        pairs = dict.fromkeys(key[:2] for key in reversed(self._accounts))
        if len(pairs) > _MOST_PAIRS:
            oldest = list(pairs)[-1]
            for key in [key for key in self._accounts if key[:2] == oldest]:
                del self._accounts[key]

    @property
    def _accounts(self) -> OrderedDict[_Key, Account]:
        if self._read is None:
            kind = Annotated[tuple[Account, ...], Meta(max_length=_MOST_KEPT)]
            stored = kept.recall(self._facts, _KEY, kind) or ()
            self._read = OrderedDict(
                ((one.device_id, one.model_id, one.batch_size), one) for one in stored
            )
        return self._read


class StatisticsInquiry:
    """Answers what generations came to.

    Args:
        keeper: Has learned it.
        devices: Knows devices by other names too.
        models: Knows models of which nothing was learned.
    """

    def __init__(self, keeper: StatisticsKeeper, devices: Devices, models: Models) -> None:
        self._keeper = keeper
        self._devices = devices
        self._models = models

    async def describe(self, device_id: str, model_id: str) -> Statistics:
        """Of a device and a model, "" for all. What has gone since is told as well.

        Raises:
            NotFound: DEVICE_NOT_FOUND or MODEL_NOT_FOUND: there is none, and was none.
            DomainError: The device or the model cannot be used, and never was.
        """
        if device_id and not self._keeper.accounts(device_id, ""):
            device_id = (await self._devices.resolve(device_id)).device_id
        if model_id and not self._keeper.accounts("", model_id):
            model_id = (await self._models.resolve(model_id, masks=True, vae=True)).model_id
        return Statistics(self._keeper.accounts(device_id, model_id))


def _times_of(session: Session) -> Iterator[tuple[Timed, float]]:
    if session.times.stop_seconds is not None:
        yield Timed.CANCEL, session.times.stop_seconds
    for entry in session.log.entries():
        if isinstance(entry, StepFinished) and entry.seconds:
            yield Timed.STEP, entry.seconds
    end = session.log.terminal
    if not isinstance(end, Completed):
        return
    yield Timed.QUEUE, session.waited_seconds
    yield Timed.WORK, session.times.spent(Spell.RUNNING)
    # A batch tells those of its items together.
    once = {} if session.kind is SessionKind.GENERATION_BATCH else _ONCE
    for timed, phase in once.items():
        if end.timings.get(phase):
            yield timed, end.timings[phase]
    for timed, phase in _PER_PICTURE.items():
        for _ in session.images:
            yield timed, end.timings.get(phase, 0.0) / len(session.images)
