"""One run on a worker as the front sees it: its events on their way to the caller.

A reader thread puts events in, the event loop takes them out. A worker that talks faster
than the caller listens is summed up, not queued without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from domains.codec import encode
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.session.jobs import Job, JobEvent, PartEnded, SpooledImage
from domains.session.types import (
    ImageDecoded,
    ImageResult,
    Phase,
    PhaseStarted,
    PieceFinished,
    Preview,
    ProgressEvent,
    StepFinished,
    TransferProgress,
)
from server.worker.front.spool import discard
from server.worker.link.connection import MAX_FRAME_BYTES
from server.worker.link.frames import ProtocolError, RunOrder, raw

# Beyond this many waiting events, news replaces what it makes old.
_RELAXED = 64
_MOST_PREVIEWS = 4
# An honest run has a handful of lasting events for each picture.
_MOST_LASTING = 4096

_REPLACED = (StepFinished, PieceFinished, TransferProgress, Preview)
"""Events that news of the same kind makes old."""


class Run:
    """One run: what it is, how it stands, and what the caller has not yet seen.

    Args:
        session_id: Names it for `cancel`.
        epoch: Its number; later runs have higher ones.
        job: What is done.
        deadline: When it must be over, in `time.monotonic` seconds.
    """

    def __init__(self, session_id: str, epoch: int, job: Job[Any], deadline: float) -> None:
        self.session_id = session_id
        self.epoch = epoch
        self.job = job
        self.deadline = deadline
        self.begun = False
        self.stop_error: DomainError | None = None
        """Why the front wants it to end; it then ends with this, whatever else happens."""
        self.pausing = False
        """Whether it was asked to pause."""
        self.finished = asyncio.Event()
        """The worker is done with it, or gone."""
        self.last_progress = time.monotonic()
        self.phase: Phase | None = None
        """Which phase of the work began last; None before the first."""
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: deque[JobEvent] = deque()
        self._outcome: object | None = None
        self._closed = False
        self._woken = asyncio.Event()
        self._wake_posted = False
        self._first_step = 0.0
        self._steps = 0
        self._lasting = 0
        self._images: set[int] = set()
        self._parts: set[int] = set()

    def order(self) -> bytes:
        """What tells a worker to do it in the time that is left.

        Raises:
            ResourceExhausted: It is larger than the link takes.
        """
        left = max(self.deadline - time.monotonic(), 0.0)
        order = encode(RunOrder(self.session_id, self.epoch, left, raw(self.job)))
        if len(order) > MAX_FRAME_BYTES:
            raise ResourceExhausted(
                "The work is too large to hand to a worker; shorten its texts.",
                reason=Reason.MESSAGE_TOO_LARGE,
                metadata={"size_bytes": str(len(order)), "limit_bytes": str(MAX_FRAME_BYTES)},
            )
        return order

    # From the reader thread.

    def touch(self, now: float) -> None:
        """The work moved on at `now`, in `time.monotonic` seconds."""
        self.last_progress = now

    def forgive(self, seconds: float) -> None:
        """The work could not move on for so long."""
        self.last_progress = min(self.last_progress + seconds, time.monotonic())

    def check(self, event: ProgressEvent | ImageResult) -> None:
        """Refuse what this run cannot have made.

        Raises:
            ProtocolError: Another picture than the job asks for, or an event that a job of
                its kind does not have.
        """
        job = self.job
        index = getattr(event, "image_index", None)
        if index is not None and index >= job.image_count:
            raise ProtocolError("an event is about a picture that is not drawn")
        if isinstance(event, ImageResult):
            if event.image_index in self._images:
                raise ProtocolError("a picture came twice")
            self._images.add(event.image_index)
            if not job.accepts(event):
                raise ProtocolError("a picture is not one that was asked for")
        elif not isinstance(event, job.events):
            raise ProtocolError("an event that this job does not have")

    def end_part(self, event: PartEnded) -> None:
        """Hand a part's end to the caller, unless the front has ended all of it.

        Raises:
            ProtocolError: It has no such part, the part has ended before, or not all its
                pictures have come.
        """
        try:
            due = self.job.due_from(event.part, event.outcome)
        except IndexError:
            raise ProtocolError("a part ended that the job does not have") from None
        if event.part in self._parts:
            raise ProtocolError("a part ended twice")
        if not self._images.issuperset(due):
            raise ProtocolError("a part ended without all its pictures")
        self._parts.add(event.part)
        if self.stop_error is None:  # which may be a picture that could not be taken
            self.offer(event)

    def check_complete(self, report: Any) -> None:
        """Refuse a report of a run whose pictures have not all come, or parts not ended.

        Raises:
            ProtocolError: Some are missing, and nobody asked the run to end before; or it
                paused unasked.
        """
        if self.job.paused(report) and not self.pausing:
            raise ProtocolError("work has paused that nobody asked to")
        if self.stop_error is None and len(self._images) < self.job.due_images(report):
            raise ProtocolError("work is done without all its pictures")
        if self._parts.symmetric_difference(self.job.due_parts(report)):
            raise ProtocolError("work is done with other parts than have ended")

    def offer(self, event: JobEvent) -> None:
        """Hand an event to the caller; deletes a picture that nobody waits for.

        Raises:
            ProtocolError: There are more events than any honest run has.
        """
        with self._lock:
            if isinstance(event, StepFinished):
                self._count_step()
            elif isinstance(event, PhaseStarted):
                self.phase = event.phase
            closed = self._closed
            if not closed:
                self._sum_up(event)
                self._waiting.append(event)
                if not isinstance(event, _REPLACED):
                    self._lasting += 1
                if self._lasting > _MOST_LASTING:
                    raise ProtocolError("more events than any run has")
                self._post_wake()
        if closed and isinstance(event, SpooledImage):
            discard(event)

    def finish(self, outcome: object) -> None:
        """The run is over with a report or an error; the first counts. From any thread."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = self.stop_error or outcome
            self._post_wake()
        self._post(self.finished.set)

    # From the event loop.

    async def outcomes(self) -> AsyncGenerator[Any]:
        """The events as they come, and the report last.

        Raises:
            DomainError: What the run ended with instead.
        """
        report_type = self.job.report_type()
        while True:
            outcome = await self.next()
            if isinstance(outcome, DomainError):
                raise outcome
            yield outcome
            if isinstance(outcome, report_type):
                return

    async def next(self) -> object:
        """The next event, or how the run ended once every event is out."""
        # A caller that always finds something waiting must not keep the loop for itself.
        await asyncio.sleep(0)
        while True:
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
                if self._outcome is not None:
                    return self._outcome
                self._woken.clear()
                self._wake_posted = False
            await self._woken.wait()

    def close(self) -> None:
        """The caller listens no more: pictures that wait, and any that come, are deleted."""
        with self._lock:
            self._closed = True
            left = [event for event in self._waiting if isinstance(event, SpooledImage)]
            self._waiting.clear()
        for image in left:
            discard(image)

    @property
    def mean_step(self) -> float:
        """Seconds from one step to the next so far; 0 while nobody knows."""
        with self._lock:
            if self._steps < 2:
                return 0.0
            return (self._last_step - self._first_step) / (self._steps - 1)

    @property
    def succeeded(self) -> bool:
        """Whether it is over and came to a report."""
        return self._outcome is not None and not isinstance(self._outcome, DomainError)

    def _count_step(self) -> None:
        now = time.monotonic()
        if self._steps == 0:
            self._first_step = now
        self._last_step = now
        self._steps += 1

    def _sum_up(self, event: JobEvent) -> None:
        """Drop what `event` makes old; steps only when many wait."""
        waiting = self._waiting
        if isinstance(event, Preview):
            previews = [item for item in waiting if isinstance(item, Preview)]
            if len(previews) >= _MOST_PREVIEWS:
                waiting.remove(previews[0])
        if len(waiting) < _RELAXED:
            return
        if isinstance(event, StepFinished | PieceFinished | TransferProgress):
            old: deque[JobEvent] = deque()
            while waiting and isinstance(waiting[-1], type(event) | Preview):
                last = waiting.pop()
                if isinstance(last, Preview):
                    old.appendleft(last)
            waiting.extend(old)
        elif isinstance(event, ImageDecoded) and event in waiting:
            waiting.remove(event)

    def _post_wake(self) -> None:
        if not self._wake_posted:
            self._wake_posted = True
            self._post(self._woken.set)

    def _post(self, call: Callable[[], None]) -> None:
        # The loop may be closed already when the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)
