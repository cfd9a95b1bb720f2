"""Working off a batch: which items run, and when."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from msgspec import structs

from domains.clients import Caller, Role, calling
from domains.clock import Clock
from domains.device.types import at_once
from domains.errors import DomainError, Reason, ResourceExhausted, Unavailable
from domains.processing.batches.core.attempt import Attempt
from domains.processing.batches.core.batch import Batch
from domains.processing.batches.core.endings import Endings
from domains.processing.batches.core.groups import goes_with, lacked_room
from domains.processing.batches.core.items import work_of
from domains.processing.batches.core.shelf import Shelf
from domains.processing.batches.ports import BatchDevices
from domains.processing.batches.types import Computation, ItemRecord
from domains.session.core.children import paused
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.jobs import WorkPaused
from domains.session.ports import FaultReporter
from domains.session.types import Outcome, Phase, PhaseStarted, SessionState
from domains.values import Degradation, DegradationKind

_LOOK_SECONDS = 1.0  # devices come and go without telling
_LONGEST_PATIENCE = 60.0


@dataclass(frozen=True)
class Means:
    """What batches are worked off with.

    `sessions` and `runner` start those of items, `devices` says how many run at once, `shelf`
    keeps what comes of them; `describe` is what a client sees of an error.
    """

    sessions: Sessions
    runner: SessionRunner
    devices: BatchDevices
    shelf: Shelf
    describe: FaultReporter
    clock: Clock


class BatchRun:
    """One turn of a batch's session.

    Items are begun in their order, a few at a time. Each that ends is on disk before anybody
    hears of it. One that cannot be begun for now, for want of a device, of room in its queue or
    on the disk, is tried again ever more seldom, and that is no attempt.

    Args:
        batch: What is worked off.
        session: The session that does it.
        means: With what.
    """

    def __init__(self, batch: Batch, session: Session, means: Means) -> None:
        self._batch, self._session, self._means = batch, session, means
        self._items = batch.items
        self._sharing = batch.manner.computation is Computation.THROUGHPUT
        self._attempts: dict[Attempt, asyncio.Task[None]] = {}
        self._endings = Endings(batch, session, means.shelf, means.clock.monotonic)
        self._stopping = False
        self._patience = self._not_before = 0.0

    async def work(self) -> Outcome:
        """Work off what is left.

        Raises:
            WorkPaused: The batch was to be paused; another run goes on.
        """
        self._session.record(PhaseStarted(Phase.RUNNING_STEPS))
        self._endings.tell_progress()
        try:
            self._take_up()
            await self._work_off()
        except asyncio.CancelledError:
            if not self._session.suspended:
                await self._end_items()
            raise
        finally:
            for task in self._attempts.values():
                task.cancel()
            await asyncio.gather(*self._attempts.values(), return_exceptions=True)
            self._batch.groups = {
                attempt.child.session_id: [each.position for each in attempt.left.values()]
                for attempt in self._attempts
                if attempt.child is not None and attempt.size > 1
            }
            self._items.release()
            self._batch.children.clear()
        return Outcome(self._degradations())

    def _degradations(self) -> tuple[Degradation, ...]:
        sizes = self._batch.group_size
        told = []
        if sizes.begun_smaller:
            told.append(f"Little memory was free: groups began with {sizes.first} items.")
        if sizes.shrunk:
            told.append(f"Memory ran out: groups had {sizes.smallest} items for a while.")
        return tuple(Degradation(DegradationKind.SHARED_LESS, detail) for detail in told)

    async def _work_off(self) -> None:
        batch, items = self._batch, self._items
        while True:
            batch.wake.clear()
            if self._session.state is SessionState.PAUSING:
                self._pause()
            await self._keep_to_failures()
            await self._look_at_memory()
            self._begin_some()
            if batch.sealed and items.all_ended and not self._attempts and not batch.awaiting:
                batch.closing = True
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next()):
                    await batch.wake.wait()

    def _seconds_to_next(self) -> float | None:
        """When to look again though nobody says anything."""
        now = self._now()
        due = self._items.next_due(now)
        if due is None:
            return None
        # What is due now and was not begun waits for room, which is told, or for patience.
        seconds = due or max(self._not_before - now, 0.0) or _LOOK_SECONDS
        return min(seconds, _LOOK_SECONDS)

    def _now(self) -> float:
        return self._means.clock.monotonic()

    # Beginning.

    def _take_up(self) -> None:
        """Go on with what an earlier turn or server has begun."""
        newest: dict[int, Session] = {}
        children = self._means.sessions.children(self._session.session_id)
        for child in children:
            record = self._items.find(child.about.parent.item_id)
            if record is None or record.state is not SessionState.QUEUED:
                continue
            if child.session_id == record.session_id:  # that attempt is counted
                newest.pop(record.position, None)
            else:
                newest[record.position] = child
        begun = [(child, [position]) for position, child in newest.items()]
        groups, self._batch.groups = self._batch.groups, {}
        begun += [
            (child, groups[child.session_id])
            for child in children
            if child.session_id in groups
        ]
        for child, positions in begun:
            self._items.claim(positions)
            if child.state is SessionState.PAUSED:
                self._means.sessions.resume(child, "")
            self._start([self._items[position] for position in positions], child)

    def _begin_some(self) -> None:
        while self._now() >= self._not_before and (room := self._room()) > 0:
            record = self._items.take(self._now())
            if record is None:
                return
            group = [record]
            while self._sharing and len(group) < room:
                joining = self._items.next(self._now())
                if joining is None or not goes_with(group, joining):
                    break
                self._items.take(self._now())
                group.append(joining)
            self._start(group)

    async def _look_at_memory(self) -> None:
        """Have groups begin with as many items as free memory suffices for: once, when there is
        one to judge by."""
        sizes, record = self._batch.group_size, self._items.next(self._now())
        if not self._sharing or sizes.begun or record is None or not record.settled.seeds:
            return
        reports = self._means.devices.selected(self._batch.manner.devices)
        try:
            devices = [report.device.device_id for report in reports]
            template = self._batch.template
            with calling(Caller(self._batch.owner, Role.RUN)):  # whose pictures it names
                fitting = await template.at_once(work_of(record), record.settled, devices)
        except DomainError:  # whoever begins the item is told
            fitting = None
        sizes.begin(fitting)

    def _room(self) -> int:
        """How many items may begin as one session now; 0 where none may.

        A device runs one session at a time. So where the limit is no lower than the number of
        devices, each may have one more waiting: it need not pause while one's end is written.
        """
        if self._session.state is not SessionState.RUNNING:
            return 0
        manner = self._batch.manner
        reports = self._means.devices.selected(manner.devices)
        most = manner.max_parallel
        size = self._batch.group_size.size if self._sharing else 1
        if most is not None and (self._sharing or most < len(reports)):
            return min(size, most - len(self._items.at_work))
        return size if len(self._attempts) < at_once(reports) else 0

    def _start(self, group: list[ItemRecord], child: Session | None = None) -> None:
        attempt = Attempt(self._batch, self._session, group, child)
        task = asyncio.create_task(self._try(attempt))
        self._attempts[attempt] = task
        task.add_done_callback(lambda _: self._tried(attempt, task))

    def _tried(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        if not task.cancelled():  # else the turn is over, and another one goes on with it
            self._attempts.pop(attempt, None)
            self._batch.wake.set()

    async def _try(self, attempt: Attempt) -> None:
        try:
            await attempt.begin(self._means.runner)
            self._patience = 0.0
            if self._stopping:
                self._cancel(attempt)
            await attempt.follow(self._endings)
        except (Unavailable, ResourceExhausted) as error:
            if _never_fits(error):
                await attempt.fail(self._endings, self._means.describe(error))
            else:
                self._wait_a_while(error)
                attempt.give_back()
        except Exception as error:
            await attempt.fail(self._endings, self._means.describe(error))
        if self._sharing and (attempt.child is not None or attempt.lacked_room):
            self._batch.group_size.note(worked=not attempt.lacked_room, size=attempt.size)

    def _wait_a_while(self, error: DomainError) -> None:
        """Nothing can be begun for now."""
        self._patience = min(max(2 * self._patience, 0.25), _LONGEST_PATIENCE)
        wait = max(self._patience, min(error.retry_after or 0.0, _LONGEST_PATIENCE))
        self._not_before = self._now() + wait

    # Stopping and pausing.

    async def _keep_to_failures(self) -> None:
        """Cancel the rest once as many items have failed as may."""
        most, failed = self._batch.manner.max_failures, self._batch.failures
        if most is None or failed < most:
            return
        for attempt in self._attempts:
            if attempt.child is not None:
                attempt.child.request_cancel(
                    Reason.CANCELLED_BY_CLIENT, "Too many items failed."
                )
        cancelled = self._items.cancel_waiting()
        reason = f"{failed} items failed, and max_failures is {most}."
        if cancelled or (self._attempts and not self._batch.record.end_reason):
            self._batch.record = structs.replace(self._batch.record, end_reason=reason)
            await self._means.shelf.put_batch(self._batch.record, cancelled)

    def _pause(self) -> None:
        """Ask every session of an item to pause, and stop once they have.

        Raises:
            WorkPaused: They have.
        """
        children = [attempt.child for attempt in self._attempts]
        if paused(self._means.sessions, children, "Its batch was paused."):
            raise WorkPaused

    async def _end_items(self) -> None:
        """End the sessions of items; what they came to is written down."""
        self._stopping = True
        for attempt in self._attempts:
            self._cancel(attempt)
        while self._attempts:
            await asyncio.wait(tuple(self._attempts.values()))
            await asyncio.sleep(0)  # what is done when a task has ended

    def _cancel(self, attempt: Attempt) -> None:
        if attempt.child is not None:
            attempt.child.request_cancel(self._session.cancel_reason or Reason.DEADLINE_EXPIRED)


def _never_fits(error: DomainError) -> bool:
    """Whether it needs more memory than there is in all: what is short only for now says when
    to try again."""
    return error.retry_after is None and lacked_room(error.failure())
