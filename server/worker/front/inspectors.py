"""Inspectors: a process for each job on untrusted files, ended with its answer.

They are run like jobs on devices, and by the same frames; the difference is that each has a
process of its own, with limits, and that stopping one is killing it.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import structlog

from domains.errors import (
    Cancelled,
    DeadlineExceeded,
    DomainError,
    Internal,
    Reason,
    Unavailable,
)
from domains.session.errors import ShuttingDown
from domains.session.jobs import Job, JobEvent
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from server.worker.front.environment import child_environment, inspector_command
from server.worker.front.hang import rested
from server.worker.front.process import WorkerProcess, describe_exit
from server.worker.front.runs import Run
from server.worker.front.windows_job import KillOnCloseJob
from server.worker.link import frames
from server.worker.link.connection import (
    LinkClosed,
    LinkOffer,
    OversizedFrame,
    offer_link,
)
from server.worker.link.start_record import InspectorRecord

Report = TypeVar("Report")

MEMORY_BYTES = 4 << 30
"""Address space that an inspector may have: numpy's own, and a few of the largest tensors."""
_HANG_SECONDS = 120.0
_POLL_SECONDS = 1.0
_EXIT_SECONDS = 10.0
# One thread: its own pool would take address space from the limit and time from the server.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_log = structlog.get_logger("deviceops.inspector")


@dataclass(frozen=True)
class InspectorOptions:
    """How inspectors are started, and what one may take."""

    log_level: str = "info"
    memory_bytes: int = MEMORY_BYTES
    hang_seconds: float = _HANG_SECONDS
    command: Callable[[], Sequence[str]] = inspector_command


class Inspectors:
    """Does jobs in processes without a device; see the port `JobRunner`.

    Args:
        options: How.
    """

    def __init__(self, options: InspectorOptions) -> None:
        self._options = options
        self._running: dict[str, Run] = {}
        self._stopping = False

    async def run(
        self, device_id: str, session_id: str, job: Job[Report], *, remaining: float
    ) -> AsyncGenerator[JobEvent | Report]:
        """Do `job` in a process of its own; see the port. `device_id` means nothing."""
        if self._stopping:
            raise ShuttingDown()
        run = Run(session_id, 0, job, time.monotonic() + remaining)
        inspector = _Inspector(run, self._options)
        self._running[session_id] = run
        watch = asyncio.create_task(self._watch(run), name=f"inspector {session_id}")
        try:
            async with aclosing(run.outcomes()) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            del self._running[session_id]
            run.close()
            watch.cancel()
            inspector.kill()
            await asyncio.shield(asyncio.to_thread(inspector.release))

    def cancel(self, device_id: str, session_id: str) -> None:
        """Stop a job at once; nothing happens when it does not run."""
        run = self._running.get(session_id)
        if run is not None:
            run.finish(Cancelled("The work was stopped on request."))

    def stop(self) -> None:
        """Take no more jobs, and stop those that run."""
        self._stopping = True
        for run in tuple(self._running.values()):
            run.finish(ShuttingDown())

    async def _watch(self, run: Run) -> None:
        """End a run whose time is over, or that does not move on."""
        while True:
            run.forgive(await rested(_POLL_SECONDS))
            now = time.monotonic()
            if now >= run.deadline:
                run.finish(DeadlineExceeded("The time given to this work is over."))
            elif now - run.last_progress >= self._options.hang_seconds:
                run.finish(_hung(self._options.hang_seconds))


class _Inspector:
    """One process, and the thread that reads what it says.

    Raises:
        ResourceExhausted: The job is larger than the link takes.
    """

    def __init__(self, run: Run, options: InspectorOptions) -> None:
        self._run = run
        self._order = run.order()
        self._offer: LinkOffer = offer_link()
        cpu_seconds = math.ceil(max(run.deadline - time.monotonic(), 1.0))
        record = InspectorRecord(
            self._offer.address,
            self._offer.key,
            options.log_level,
            os.getpid(),
            options.memory_bytes,
            cpu_seconds,
        )
        try:
            self._process = WorkerProcess(
                options.command(),
                child_environment() | _ONE_THREAD,
                record.to_bytes(),
                on_line=lambda line: _log.info("inspector_output", line=line),
                on_exit=self._offer.abandon,
                descriptors=self._offer.descriptors,
                job=KillOnCloseJob(options.memory_bytes, cpu_seconds),
            )
        except BaseException:
            self._offer.close()
            raise
        self._offer.hand_over()
        self._thread = threading.Thread(target=self._read, name="inspector", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.kill()
            self.release()
            raise

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def release(self) -> None:
        """Wait for its end, and let go of what was its."""
        self._process.wait(_EXIT_SECONDS)
        self._offer.abandon()
        if self._thread.ident is not None:  # the system had one for it
            self._thread.join(_EXIT_SECONDS)
        self._offer.close()
        self._process.release()

    # In the thread.

    def _read(self) -> None:
        try:
            self._run.finish(self._outcome())
        except LinkClosed:
            self._run.finish(self._lost())
        except (frames.ProtocolError, OversizedFrame) as error:
            _log.error("inspector_broke_rules", what=str(error))
            self._run.finish(Internal("The inspector gave an answer that cannot be read."))
        except Exception as error:  # nobody would hear how it ended
            shortage = shortage_of(error)
            if shortage is None:
                _log.exception("inspector_link_failed")
            self._run.finish(shortage or Internal("The inspector could not be spoken to."))

    def _outcome(self) -> object:
        """The report, or the error that it ended with."""
        run = self._run
        link = self._offer.accept()
        try:
            link.send(self._order)
            while True:
                frame = frames.decode_from_worker(link.receive())
                run.touch(time.monotonic())
                match frame:
                    case frames.Progress(event=event):
                        if isinstance(event, ImageResult):
                            raise frames.ProtocolError("an inspector makes no pictures")
                        if event is not None:
                            run.check(event)
                            run.offer(event)
                    case frames.Done(report=report):
                        return frames.decoded(run.job.report_type(), bytes(report))
                    case frames.Failed(failure=failure, traceback=told):
                        if told:
                            _log.warning("inspector_failed", traceback=told)
                        return failure.error()
                    case _:
                        raise frames.ProtocolError("a frame that no inspector sends")
        finally:
            link.close()

    def _lost(self) -> DomainError:
        """It ended without an answer: the system ended it, or a file made it crash."""
        self._process.wait(_EXIT_SECONDS)
        words, facts = describe_exit(self._process.exit_code or 0)
        return Unavailable(
            f"The process that looks into untrusted files {words}; the file may be damaged on"
            " purpose, or need more memory than one process may have.",
            reason=Reason.WORKER_LOST,
            metadata=facts,
        )


def _hung(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The process that looks into untrusted files made no progress for {seconds:g} seconds"
        " and was ended; the file may be made to take for ever.",
        reason=Reason.WORKER_HUNG,
    )
