"""Working off a batch: which items run, what comes of them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace

from msgspec import structs

from domains.clock import Clock
from domains.device.types import DeviceState
from domains.errors import Cancelled as WasCancelled
from domains.errors import DomainError, Failure, Reason, ResourceExhausted, Unavailable
from domains.processing.batches.core.batch import Batch
from domains.processing.batches.core.items import work_of
from domains.processing.batches.core.shelf import Shelf
from domains.processing.batches.ports import BatchDevices
from domains.processing.batches.types import ItemRecord
from domains.session.core.about import Parent
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.jobs import WorkPaused
from domains.session.ports import FaultReporter
from domains.session.types import (
    Cancelled,
    Completed,
    ImageFinished,
    ItemFinished,
    Outcome,
    Phase,
    PhaseStarted,
    SessionState,
)

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
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._began = means.clock.monotonic() - batch.items.worked_seconds
        self._patience = self._not_before = 0.0

    async def work(self) -> Outcome:
        """Work off what is left.

        Raises:
            WorkPaused: The batch was to be paused; another run goes on.
        """
        self._session.record(PhaseStarted(Phase.RUNNING_STEPS))
        self._tell_progress()
        try:
            self._take_up()
            await self._work_off()
        except asyncio.CancelledError:
            if not self._session.suspended:
                await self._end_items()
            raise
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._items.release()
            self._batch.children.clear()
        return Outcome()

    async def _work_off(self) -> None:
        batch, items = self._batch, self._items
        while True:
            batch.wake.clear()
            if self._session.state is SessionState.PAUSING:
                self._pause()
            await self._keep_to_failures()
            self._begin_some()
            if batch.sealed and items.all_ended and not self._tasks and not batch.awaiting:
                batch.closing = True
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_next()):
                    await batch.wake.wait()

    def _seconds_to_next(self) -> float | None:
        """When to look again though nobody says anything."""
        due = self._items.next_due(self._now())
        return None if due is None else min(max(due, 0.01), _LOOK_SECONDS)

    def _now(self) -> float:
        return self._means.clock.monotonic()

    def _worked_seconds(self) -> float:
        return max(self._now() - self._began, 0.0)

    # Beginning.

    def _take_up(self) -> None:
        """Go on with what an earlier turn or server has begun."""
        newest: dict[int, Session] = {}
        for child in self._means.sessions.children(self._session.session_id):
            record = self._items.find(child.about.parent.item_id)
            if record is None or record.state is not SessionState.QUEUED:
                continue
            if child.session_id == record.session_id:  # that attempt is counted
                newest.pop(record.position, None)
            else:
                newest[record.position] = child
        self._items.claim(newest.keys())
        for position, child in newest.items():
            if child.state is SessionState.PAUSED:
                self._means.sessions.resume(child, "")
            self._start(self._items[position], child)

    def _begin_some(self) -> None:
        while self._now() >= self._not_before and len(self._tasks) < self._most_at_work():
            record = self._items.take(self._now())
            if record is None:
                return
            self._start(record)

    def _most_at_work(self) -> int:
        """How many sessions of items may be there at once.

        A device runs one at a time. So where the limit is no lower than the number of devices,
        each may have one more waiting: it need not pause while one's end is written.
        """
        if self._session.state is not SessionState.RUNNING:
            return 0
        manner = self._batch.manner
        reports = self._means.devices.selected(manner.devices)
        ready = sum(report.state is DeviceState.READY for report in reports)
        if manner.max_parallel is not None and manner.max_parallel < len(reports):
            return manner.max_parallel
        return max(2 * ready, 1)

    def _start(self, record: ItemRecord, child: Session | None = None) -> None:
        task = asyncio.create_task(self._attempt(record, child))
        self._tasks[record.position] = task
        task.add_done_callback(lambda _: self._attempted(record.position))

    def _attempted(self, position: int) -> None:
        self._tasks.pop(position, None)
        self._batch.children.pop(position, None)
        self._batch.wake.set()

    async def _attempt(self, record: ItemRecord, child: Session | None) -> None:
        try:
            if child is None:
                child = await self._child(record)
        except (Unavailable, ResourceExhausted) as error:
            self._wait_a_while(error)
            self._items.put_back(record.position)
            return
        except Exception as error:
            failure = self._means.describe(error)
            await self._end(record, SessionState.FAILED, None, failure)
            return
        self._patience = 0.0
        self._batch.children[record.position] = child
        self._batch.wake.set()
        if self._stopping:
            self._cancel(child)
        while not child.state.final:
            changed = child.log.change()
            if child.state is SessionState.PAUSED:
                self._batch.wake.set()
            await changed.wait()
        end = child.log.terminal
        ended_by = child.failure
        if isinstance(end, Cancelled):
            text = f"The item was cancelled. {end.reason_text}".strip()
            ended_by = WasCancelled(text, reason=end.reason).failure()
        await self._end(record, child.state, child, ended_by)

    async def _child(self, record: ItemRecord) -> Session:
        request = self._batch.template.request(
            work_of(record), record.settled, self._session.options.priority
        )
        parent = Parent(self._session.session_id, record.item_id)
        return await self._means.runner.begin(
            replace(request, owner=self._batch.owner, parent=parent)
        )

    def _wait_a_while(self, error: DomainError) -> None:
        """Nothing can be begun for now."""
        self._patience = min(max(2 * self._patience, 0.25), _LONGEST_PATIENCE)
        wait = max(self._patience, min(error.retry_after or 0.0, _LONGEST_PATIENCE))
        self._not_before = self._now() + wait

    # Ending.

    async def _end(
        self,
        record: ItemRecord,
        state: SessionState,
        child: Session | None,
        failure: Failure | None,
    ) -> None:
        """An attempt is over: write that down, then tell it."""
        after = self._items.after(
            record.position,
            state,
            "" if child is None else child.session_id,
            () if child is None else child.images,
            failure,
            began=child is None or child.times.start_time is not None,
            worked_seconds=self._worked_seconds(),
        )
        await self._means.shelf.put(after)
        self._items.apply(after, self._now())
        if after.state is not SessionState.QUEUED:
            self._tell(after, child)

    def _tell(self, record: ItemRecord, child: Session | None) -> None:
        if self._session.state.final:
            return
        images = tuple(
            structs.replace(image, item_id=record.item_id) for image in record.images
        )
        for image in images:
            self._session.log.append(ImageFinished(image), record.item_id)
        end = None if child is None else child.log.terminal
        self._session.finish_item(
            ItemFinished(
                record.item_id,
                self._items.ended,
                self._items.count(SessionState.FAILED),
                len(self._items),
                images,
                record.failure,
                degradations=end.degradations if isinstance(end, Completed) else (),
                session_id=record.session_id,
            )
        )
        self._tell_progress()

    def _tell_progress(self) -> None:
        items = self._items
        self._session.done.reach(items.ended / len(items) if len(items) else 0.0)
        self._session.expect_end(self._batch.remaining_seconds)

    async def _keep_to_failures(self) -> None:
        """Cancel the rest once as many items have failed as may."""
        most, failed = self._batch.manner.max_failures, self._items.count(SessionState.FAILED)
        if most is None or failed < most:
            return
        for child in tuple(self._batch.children.values()):
            child.request_cancel(Reason.CANCELLED_BY_CLIENT, "Too many items failed.")
        cancelled = self._items.cancel_waiting()
        reason = f"{failed} items failed, and max_failures is {most}."
        if cancelled or (self._batch.children and not self._batch.record.end_reason):
            self._batch.record = structs.replace(self._batch.record, end_reason=reason)
            await self._means.shelf.put_batch(self._batch.record)
            await self._means.shelf.put(*cancelled)

    # Pausing and stopping.

    def _pause(self) -> None:
        """Ask every session of an item to pause, and stop once they have.

        Raises:
            WorkPaused: They have.
        """
        children = self._batch.children
        for child in children.values():
            runs = child.state is SessionState.RUNNING and child.can_pause_work
            if runs or child.state is SessionState.QUEUED:
                self._means.sessions.pause(child, "Its batch was paused.", "")
        paused = all(child.state is SessionState.PAUSED for child in children.values())
        if paused and len(children) == len(self._tasks):
            raise WorkPaused

    async def _end_items(self) -> None:
        """End the sessions of items; what they came to is written down."""
        self._stopping = True
        for child in tuple(self._batch.children.values()):
            self._cancel(child)
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    def _cancel(self, child: Session) -> None:
        child.request_cancel(self._session.cancel_reason or Reason.DEADLINE_EXPIRED)
