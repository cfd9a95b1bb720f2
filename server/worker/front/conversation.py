"""What a worker says, read frame by frame in a thread, and what it means for its run."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domains.device.types import DeviceFigures
from domains.errors import DomainError, Failure, Reason, ResourceExhausted
from domains.session.jobs import PartEnded, PeakMemory
from domains.session.types import ImageResult, ProgressEvent
from server.allowance import Allowance
from server.worker.front.memory_orders import Orders
from server.worker.front.runs import Run
from server.worker.front.spool import Spool
from server.worker.link import frames
from server.worker.link.connection import Link
from server.worker.link.frames import ProtocolError

# Frames that are read at once, and in a second. Honest workers send some hundreds a second.
_FRAMES = (10_000, 5_000)
_LONGEST_WAIT = 0.1

_OfRun = frames.Progress | frames.PartDone | frames.Done | frames.Failed


class StartRefused(Exception):
    """The worker says why it cannot work; the text is for people.

    `starved`: the system had no more of something that it needs. `lost`: its device is lost.
    """

    def __init__(self, why: str, *, starved: bool, lost: bool) -> None:
        super().__init__(why)
        self.starved = starved
        self.lost = lost


class Conversation:
    """What one worker says, checked against what it was ordered to do.

    `begin` and the attributes belong to the event loop, the rest to the reader thread.

    Args:
        device_id: What the worker is to own.
        spool: Where its pictures go.
        spool_dir: The worker's own folder in it.
        on_sticky: Called when the worker says that it must end.
        on_refused: Called when a run is to end, as a picture of it cannot be taken over.
        log: Bound to the device.
    """

    def __init__(
        self,
        device_id: str,
        spool: Spool,
        spool_dir: Path,
        *,
        on_sticky: Callable[[], None],
        on_refused: Callable[[Run], None],
        log: Any,
    ) -> None:
        self._device_id = device_id
        self._spool = spool
        self._spool_dir = spool_dir
        self._on_sticky = on_sticky
        self._on_refused = on_refused
        self._log = log
        self._last_epoch = 0
        self.run: Run | None = None
        """What the worker works on."""
        self.alive_at = 0.0
        """Its last sign of life, in `time.monotonic` seconds."""
        self.heartbeat_time: datetime | None = None
        self.progress_time: datetime | None = None
        self.resident_bytes = 0
        self.figures: DeviceFigures | None = None
        """Its device's memory as it last reported it."""
        self.orders = Orders()
        """Memory orders it has not answered."""
        self.stale_frames = 0
        """Frames about runs that were over."""

    def begin(self, run: Run) -> None:
        """Frames about `run` are expected from here on; to be called before it is ordered."""
        self._last_epoch = run.epoch
        self.run = run

    def forgive(self, seconds: float) -> None:
        """So many seconds, in which nobody could say anything, do not count."""
        self.alive_at = min(self.alive_at + seconds, time.monotonic())
        if self.run is not None:
            self.run.forgive(seconds)
        self.orders.forgive(seconds)

    def greet(self, link: Link) -> frames.Hello:
        """Read the first frame.

        Raises:
            StartRefused: The worker says why it cannot work.
            ProtocolError: It is not the worker that was started.
            LinkClosed: It is gone.
        """
        first = frames.decode_from_worker(link.receive())
        if isinstance(first, frames.CannotStart):
            why = first.failure.message
            starved = first.failure.code == ResourceExhausted.code
            lost = first.failure.reason is Reason.DEVICE_LOST
            if not starved and not lost:
                self._log.error("worker_cannot_start", why=why, traceback=first.traceback)
            raise StartRefused(why, starved=starved, lost=lost)
        if not isinstance(first, frames.Hello):
            raise ProtocolError("its first frame is no hello")
        if first.protocol_version != frames.PROTOCOL_VERSION:
            raise ProtocolError("it speaks another version; install the same one")
        if first.device_id != self._device_id:
            raise ProtocolError("it says it owns another device")
        self.alive_at = time.monotonic()
        return first

    def follow(self, link: Link) -> None:
        """Read frame after frame; returns by raising only.

        Raises:
            ProtocolError: The worker broke a rule.
            LinkClosed: It is gone.
        """
        allowance = Allowance(*_FRAMES)
        while True:
            self._take(frames.decode_from_worker(link.receive()))
            # A worker that says too much waits until it is heard.
            wait = allowance.take(1)
            if wait:
                time.sleep(min(wait, _LONGEST_WAIT))

    def _take(self, frame: frames.FromWorker) -> None:
        self.alive_at = time.monotonic()
        match frame:
            case frames.Hello() | frames.CannotStart():
                raise ProtocolError("it began twice")
            case frames.Beat(resident_bytes, figures):
                self.heartbeat_time = datetime.now(UTC)
                self.resident_bytes = resident_bytes
                self.figures = figures
            case frames.MemoryAnswer(answer=answer):
                if isinstance(answer, Failure) and answer.reason is Reason.DEVICE_LOST:
                    self._on_sticky()
                self.orders.take(frame)
            case _:
                run = self._run_of(frame)
                if run is None:
                    self.stale_frames += 1
                    return
                run.touch(self.alive_at)
                self.progress_time = datetime.now(UTC)
                self._advance(run, frame)

    def _run_of(self, frame: _OfRun) -> Run | None:
        """The run that the frame is about; None when that is over."""
        run = self.run
        if frame.epoch > self._last_epoch:
            raise ProtocolError("a frame is about a run that was never ordered")
        if run is None or frame.epoch != run.epoch:
            return None
        if frame.session_id != run.session_id:
            raise ProtocolError("a frame is about another session")
        return run

    def _advance(self, run: Run, frame: _OfRun) -> None:
        match frame:
            case frames.Progress(event=event):
                self._pass_on(run, event)
            case frames.PartDone(part=part, outcome=outcome):
                end = frames.decoded(run.job.part_type, bytes(outcome))
                run.end_part(PartEnded(part, end))
            case frames.Done(report=report, peak=peak):
                value = frames.decoded(run.job.report_type(), bytes(report))
                run.check_complete(value)
                run.offer(PeakMemory(peak))
                self.run = None
                run.finish(value)
            case frames.Failed():
                self._fail(run, frame)

    def _pass_on(self, run: Run, event: ProgressEvent | ImageResult | None) -> None:
        if event is None:
            return  # the work moves, and there is nothing to tell
        run.check(event)
        if not isinstance(event, ImageResult):
            run.offer(event)
            return
        try:
            run.offer(self._spool.accept(self._spool_dir, run.epoch, event))
        except DomainError as error:
            # It is no fault of the worker's: the run ends with that, the worker stays.
            if run.stop_error is None:
                run.stop_error = error
                self._on_refused(run)

    def _fail(self, run: Run, frame: frames.Failed) -> None:
        if frame.traceback:
            self._log.error(
                "worker_failed_run", session_id=run.session_id, traceback=frame.traceback
            )
        if frame.sticky:
            self._on_sticky()
        if frame.peak is not None:
            run.offer(PeakMemory(frame.peak))
        self.run = None
        run.finish(frame.failure.error())
