"""Counts and times of finishing steps by postprocessor. They outlive the server."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from domains.chain.core.preparing import NON_LOCAL_MEANS
from domains.chain.errors import PostprocessorMissing
from domains.chain.types import DenoiseMethod, DenoiseStep, FaceRestoreStep, Step, UpscaleStep
from domains.clock import Clock
from domains.codec import ModelId, Moment, Seconds, Value
from domains.device.core import facts as kept
from domains.device.ports import FactsStore
from domains.errors import Cancelled, Failure
from domains.session.core.durations import WINDOW, Durations, Total
from domains.session.errors import SessionTimedOut
from domains.session.types import Phase, PhaseStarted, Piece, PieceFinished, ProgressEvent

_KEY = "postprocessing.statistics"
_MOST_KEPT = 128
"""Of pairs of postprocessor and device; beyond it what was used longest ago is forgotten."""


class StepAccount(Value, frozen=True):
    """What a postprocessor's steps came to; `newest` are times in seconds, the newest last.

    `device_id` is where, empty where it was not told apart; `since` is when the first ended,
    None where that was not noted.
    """

    postprocessor_id: ModelId
    completed: Total = 0
    total: Seconds = 0.0
    newest: Annotated[tuple[Seconds, ...], Meta(max_length=WINDOW)] = ()
    failed: Total = 0
    cancelled: Total = 0
    device_id: Annotated[str, Meta(max_length=256)] = ""
    since: Moment | None = None

    @property
    def times(self) -> Durations:
        """Of those that completed."""
        return Durations(self.completed, self.total, self.newest)


@dataclass(frozen=True)
class StepSums:
    """What a postprocessor's steps came to on all devices, and on each, the one used last
    first."""

    postprocessor_id: str
    by_device: tuple[StepAccount, ...]

    @property
    def times(self) -> Durations:
        """Of those that completed."""
        found = Durations()
        for one in self.by_device:
            found = found.and_of(one.times)
        return found

    @property
    def failed(self) -> int:
        """Steps that failed."""
        return sum(one.failed for one in self.by_device)

    @property
    def cancelled(self) -> int:
        """Steps that were cancelled."""
        return sum(one.cancelled for one in self.by_device)

    @property
    def since(self) -> datetime | None:
        """When the first of them ended; None where that was not noted of all."""
        moments = [one.since for one in self.by_device]
        known = [moment for moment in moments if moment is not None]
        return min(known) if len(known) == len(moments) else None


class StepStatistics:
    """Learns from every step that ends.

    Args:
        facts: Keeps the accounts. It is read at first need.
        clock: The time.
    """

    def __init__(self, facts: FactsStore, clock: Clock) -> None:
        self._facts = facts
        self._clock = clock
        self._read: OrderedDict[tuple[str, str], StepAccount] | None = None
        self._changed = False

    def follow(self, steps: Sequence[Step], device_id: str) -> FollowedChain:
        """Listen to a chain on one picture or several, on that device."""
        ids = tuple(map(postprocessor_of, steps))
        return FollowedChain(self, self._clock, ids, device_id)

    def describe(self, postprocessor_id: str, device_id: str = "") -> tuple[StepSums, ...]:
        """Of one on one device, "" for all that were used, the one used last first.

        Raises:
            PostprocessorMissing: It was never used, or not there.
        """
        found: dict[str, list[StepAccount]] = {}
        for one in reversed(self._accounts.values()):
            if postprocessor_id in ("", one.postprocessor_id) and device_id in (
                "",
                one.device_id,
            ):
                found.setdefault(one.postprocessor_id, []).append(one)
        if postprocessor_id and not found:
            where = f" on {device_id}" if device_id else ""
            why = f"it was not used{where} yet; ListPostprocessors lists what there is."
            raise PostprocessorMissing("postprocessor_id", why, postprocessor_id)
        return tuple(StepSums(name, tuple(each)) for name, each in found.items())

    def completed(self, postprocessor_id: str, seconds: float, device_id: str = "") -> None:
        """A step is done."""
        one = self._of(postprocessor_id, device_id)
        times = one.times.with_time(seconds)
        self._put(replace(one, completed=times.count, total=times.total, newest=times.newest))

    def stopped(self, postprocessor_id: str, device_id: str = "", *, cancelled: bool) -> None:
        """A step ended otherwise."""
        one = self._of(postprocessor_id, device_id)
        if cancelled:
            self._put(replace(one, cancelled=one.cancelled + 1))
        else:
            self._put(replace(one, failed=one.failed + 1))

    async def save(self) -> None:
        """Have what is new outlive the server; nothing where nothing is. To be called now and
        then, and at the end."""
        if self._changed:
            self._changed = False
            accounts = tuple(self._accounts.values())
            await asyncio.to_thread(kept.note, self._facts, _KEY, accounts)

    def _of(self, postprocessor_id: str, device_id: str) -> StepAccount:
        return self._accounts.get((postprocessor_id, device_id)) or StepAccount(
            postprocessor_id, device_id=device_id, since=self._clock.wall()
        )

    def _put(self, account: StepAccount) -> None:
        key = (account.postprocessor_id, account.device_id)
        self._accounts[key] = account
        self._accounts.move_to_end(key)
        while len(self._accounts) > _MOST_KEPT:
            self._accounts.popitem(last=False)
        self._changed = True

    @property
    def _accounts(self) -> OrderedDict[tuple[str, str], StepAccount]:
        if self._read is None:
            kind = Annotated[tuple[StepAccount, ...], Meta(max_length=_MOST_KEPT)]
            stored = kept.recall(self._facts, _KEY, kind) or ()
            self._read = OrderedDict(
                ((one.postprocessor_id, one.device_id), one) for one in stored
            )
        return self._read


@dataclass
class _Picture:
    """Whose steps are at work: those that are left, and since when the first of them is."""

    left: list[str]
    since: float


class FollowedChain:
    """Hears the events of a chain on one picture or several as they come; a step's time is what
    passes between its end and that of the step before.

    Args:
        statistics: Learns of it.
        clock: The time.
        postprocessors: The ids of its steps.
        device_id: Where it is done.
    """

    def __init__(
        self,
        statistics: StepStatistics,
        clock: Clock,
        postprocessors: tuple[str, ...],
        device_id: str,
    ) -> None:
        self._statistics = statistics
        self._clock = clock
        self._postprocessors = postprocessors
        self._device_id = device_id
        self._at_work: dict[int, _Picture] = {}

    def hear(self, event: ProgressEvent) -> None:
        """Something happened."""
        now = self._clock.monotonic()
        if isinstance(event, PhaseStarted) and event.phase is Phase.POSTPROCESSING:
            index, left = event.image_index or 0, list(self._postprocessors[event.kept_steps :])
            known = self._at_work.get(index)
            if known is None or known.left != left:  # else a network was read for its step
                self._at_work[index] = _Picture(left, now)
        elif isinstance(event, PieceFinished) and event.piece is Piece.STEP:
            picture = self._at_work.get(event.image_index)
            if picture is not None and picture.left:
                taken = max(0.0, now - picture.since)
                self._statistics.completed(picture.left.pop(0), taken, self._device_id)
                picture.since = now

    def finish(self, image_index: int) -> None:
        """A picture is out; where it was withheld, steps are left that nobody will do."""
        self._at_work.pop(image_index, None)

    def fail(self, error: BaseException | Failure) -> None:
        """The work ended with an error, in the steps at work where some were."""
        cancelled = isinstance(error, Cancelled | SessionTimedOut | asyncio.CancelledError)
        for picture in self._at_work.values():
            if picture.left:
                left = picture.left[0]
                self._statistics.stopped(left, self._device_id, cancelled=cancelled)
        self._at_work.clear()


def postprocessor_of(step: Step) -> str:
    """The id of what does a step: a model's, or that of its kind and method."""
    if isinstance(step, UpscaleStep | FaceRestoreStep) and step.model is not None:
        return step.model.model_id
    if isinstance(step, DenoiseStep) and step.method is DenoiseMethod.NON_LOCAL_MEANS:
        return NON_LOCAL_MEANS
    return step.field.replace("_", "-")
