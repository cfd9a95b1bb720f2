"""One run in a worker: when it is to stop, and how its handler speaks to the front."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from domains import failpoints
from domains.errors import Cancelled, DeadlineExceeded
from domains.session.jobs import EncodedImage, Job, PartEnded, WorkPaused
from domains.session.types import (
    MAX_PREVIEW_BYTES,
    ImageResult,
    Preview,
    ProgressEvent,
    StepFinished,
)
from server.worker.child import spool
from server.worker.link import frames

# Work that checks for a stop says so this often, so that slow work is not taken for hung.
SIGN_SECONDS = 2.0

_log = logging.getLogger("deviceops.worker")


class Run:
    """A run that was ordered, shared by the reader and the main thread."""

    def __init__(self, order: frames.RunOrder, job: Job[Any]) -> None:
        self.order = order
        self.job = job
        self.deadline = time.monotonic() + order.remaining
        self.cancelled = threading.Event()
        self.pausing = threading.Event()

    def check(self) -> None:
        """Raise what the work is to be stopped with."""
        if self.cancelled.is_set():
            raise Cancelled("The work was stopped on request.")
        if time.monotonic() >= self.deadline:
            raise DeadlineExceeded("The time given to this work is over.")
        if self.pausing.is_set():
            raise WorkPaused


class RunContext:
    """How the handler of a run speaks to the front; see the port `JobContext`.

    Args:
        run: What is done.
        spool_dir: Where pictures go.
        send: Sends a frame.
        tend: Does what else waits for the main thread.
    """

    def __init__(
        self,
        run: Run,
        spool_dir: Path,
        send: Callable[[frames.FromWorker], None],
        tend: Callable[[], None],
    ) -> None:
        self._run = run
        self._spool_dir = spool_dir
        self._send = send
        self._tend = tend
        self._sent_at = time.monotonic()

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        """Say what happened."""
        if isinstance(event, Preview) and len(event.jpeg) > MAX_PREVIEW_BYTES:
            _log.warning("a preview of %d bytes was left out", len(event.jpeg))
        elif isinstance(event, EncodedImage):
            self._progress(spool.put(self._spool_dir, self._run.order.epoch, event))
        elif isinstance(event, PartEnded):
            order, outcome = self._run.order, frames.raw(event.outcome)
            self._send(frames.PartDone(order.session_id, order.epoch, event.part, outcome))
        else:
            self._progress(event)

    def check_stop(self) -> None:
        """Raise what the work is to be stopped with."""
        try:
            self._run.check()
        finally:
            # Work that cannot pause at this point goes on, and is not taken for hung.
            self._tend()
            if time.monotonic() - self._sent_at >= SIGN_SECONDS:
                self._progress(None)

    def _progress(self, event: ProgressEvent | ImageResult | None) -> None:
        order = self._run.order
        if isinstance(event, StepFinished):
            failpoints.reach("worker.step")
        self._send(frames.Progress(order.session_id, order.epoch, event))
        self._sent_at = time.monotonic()


class UnheardContext:
    """For a job that nobody follows."""

    def emit(self, event: ProgressEvent | EncodedImage | PartEnded) -> None:
        """Nobody listens."""

    def check_stop(self) -> None:
        """Nobody stops it."""
