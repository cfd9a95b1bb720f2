"""The items of a batch: what runs next, what has ended, how they stand. No time passes here."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence

from msgspec.structs import replace

from domains.errors import Failure
from domains.processing.batches.types import ItemRecord, ItemWork, Retry
from domains.session.types import ImageResult, SessionState
from domains.session.types.named import NameCounts, Named

_ENDED = frozenset({SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED})
# What is wrong with the request stays wrong: INVALID_ARGUMENT and UNIMPLEMENTED.
_FOR_GOOD = frozenset({3, 12})


class Items:
    """The items of one batch, in the order in which they were added.

    Each is a record that is replaced whole. It waits, is at work, or has ended; one that failed
    and is tried again waits until its pause is over. Nothing but `later`, `rest` and views goes
    through more than one of them.

    Args:
        retry: How often each is tried.
        named: What one names of what the server keeps.
    """

    def __init__(self, retry: Retry, named: Callable[[ItemWork], Named]) -> None:
        self._retry, self._named = retry, named
        self.names = NameCounts()
        """What those name that have not ended."""
        self._all: list[ItemRecord] = []
        self._positions: dict[str, int] = {}
        self._waiting: deque[int] = deque()
        self._paused: list[tuple[float, int]] = []  # a heap: when it may go on, and which
        self._at_work: dict[int, None] = {}
        self._counts: Counter[SessionState] = Counter()
        self.worked_seconds = 0.0
        """How long the batch had been worked on when the last of them ended."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def all(self) -> Sequence[ItemRecord]:
        """Every one, in their order."""
        return self._all

    def __getitem__(self, position: int) -> ItemRecord:
        return self._all[position]

    def find(self, item_id: str) -> ItemRecord | None:
        """The item of that name; None where there is none."""
        position = self._positions.get(item_id)
        return None if position is None else self._all[position]

    def count(self, state: SessionState) -> int:
        """How many are in that state; all that have not ended are QUEUED."""
        return self._counts[state]

    @property
    def ended(self) -> int:
        """How many have ended, however."""
        return len(self._all) - self._counts[SessionState.QUEUED]

    @property
    def at_work(self) -> Collection[int]:
        """Positions of those at work."""
        return self._at_work.keys()

    @property
    def all_ended(self) -> bool:
        """Whether none is left."""
        return not self._counts[SessionState.QUEUED]

    # What happens to them.

    def add(self, record: ItemRecord) -> None:
        """Take one in at the end; its position is how many there were."""
        self._positions[record.item_id] = len(self._all)
        self._all.append(record)
        self._counts[record.state] += 1
        self.worked_seconds = max(self.worked_seconds, record.worked_seconds)
        if record.state not in _ENDED:
            self._waiting.append(record.position)
            self.names.add(self._named(work_of(record)))

    def next_due(self, now: float) -> float | None:
        """Seconds until one may be taken, 0 where one may be now; None where none waits."""
        if self._waiting:
            return 0.0
        return max(self._paused[0][0] - now, 0.0) if self._paused else None

    def take(self, now: float) -> ItemRecord | None:
        """The next one, which is at work from now on; None where none may begin yet. Those
        whose pause is over go before those that were not begun."""
        if self._paused and self._paused[0][0] <= now:
            _, position = heapq.heappop(self._paused)
        elif self._waiting:
            position = self._waiting.popleft()
        else:
            return None
        self._at_work[position] = None
        return self._all[position]

    def next(self, now: float) -> ItemRecord | None:
        """The one that `take` would give."""
        if self._paused and self._paused[0][0] <= now:
            return self._all[self._paused[0][1]]
        return self._all[self._waiting[0]] if self._waiting else None

    def claim(self, positions: Collection[int]) -> None:
        """These are at work, whatever they waited for: what does them is there already."""
        self._waiting = deque(each for each in self._waiting if each not in positions)
        self._paused = [each for each in self._paused if each[1] not in positions]
        heapq.heapify(self._paused)
        self._at_work |= dict.fromkeys(positions)

    def release(self) -> None:
        """None is at work any more: those that were are the next ones again."""
        self._waiting.extendleft(sorted(self._at_work, reverse=True))
        self._at_work.clear()

    def put_back(self, position: int) -> None:
        """It was not begun after all: it is the next one again."""
        del self._at_work[position]
        self._waiting.appendleft(position)

    def after(
        self,
        position: int,
        state: SessionState,
        session_id: str,
        images: tuple[ImageResult, ...] = (),
        failure: Failure | None = None,
        *,
        began: bool = True,
        worked_seconds: float,
    ) -> ItemRecord:
        """An item as one more attempt leaves it, which is only said: `apply` makes it so.

        One that failed and has attempts left is QUEUED. What never `began` was no attempt.
        """
        record = self._all[position]
        attempts = record.attempts + began
        tried = attempts - record.attempts_before
        again = (
            state is SessionState.FAILED
            and tried < self._retry.max_attempts
            and failure is not None
            and failure.code not in _FOR_GOOD
        )
        return replace(
            record,
            state=SessionState.QUEUED if again else state,
            attempts=attempts,
            session_id=session_id,
            images=images,
            failure=failure,
            worked_seconds=worked_seconds,
        )

    def apply(self, record: ItemRecord, now: float) -> None:
        """An item at work has come to this."""
        self._at_work.pop(record.position, None)
        self._put(record)
        self.worked_seconds = max(self.worked_seconds, record.worked_seconds)
        if record.state is SessionState.QUEUED:
            tried = record.attempts - record.attempts_before
            due = now + self._retry.pause_after(tried)
            heapq.heappush(self._paused, (due, record.position))

    def cancel_waiting(self) -> list[ItemRecord]:
        """None of those that wait is to run: what became of them, in their order."""
        waiting = sorted([*self._waiting, *(position for _, position in self._paused)])
        cancelled = [
            replace(self._all[position], state=SessionState.CANCELLED, failure=None)
            for position in waiting
        ]
        for record in cancelled:
            self._put(record)
        self._waiting.clear()
        self._paused.clear()
        return cancelled

    def again(self, position: int) -> ItemRecord:
        """One that has ended without a result waits again, with all its attempts before it."""
        record = self._all[position]
        record = replace(
            record,
            state=SessionState.QUEUED,
            attempts_before=record.attempts,
            failure=None,
            images=(),
        )
        self._put(record)
        self._waiting.append(position)
        return record

    def _put(self, record: ItemRecord) -> None:
        before = self._all[record.position].state
        self._counts[before] -= 1
        self._counts[record.state] += 1
        if (before in _ENDED) is not (record.state in _ENDED):
            change = self.names.remove if record.state in _ENDED else self.names.add
            change(self._named(work_of(record)))
        self._all[record.position] = record


def work_of(record: ItemRecord) -> ItemWork:
    """What an item does."""
    return ItemWork(record.item_id, record.overlay, image=record.image)
