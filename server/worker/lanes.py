"""Memory orders in a worker: done beside the main thread, or by it where that must be."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from domains.errors import Cancelled, DomainError, Internal
from domains.memory.backends.chunks import Guard
from domains.memory.types import Compare, Move
from server.worker import frames
from server.worker.parts import Buffers

PROGRESS_SECONDS = 0.1

_log = logging.getLogger("deviceops.worker")


class _Job:
    """An order on its way through a lane."""

    def __init__(self, frame: frames.MemoryOrder) -> None:
        self.ticket = frame.ticket
        self.order = frame.order
        self.cancelled = False
        self.begun = False


class MemoryLanes:
    """Does memory orders in order: moves and comparisons in one lane, all else in another.

    A long move so never keeps an allocation waiting.

    Args:
        buffers: Does them.
        tell: Sends an answer to the front; from any thread.
        wake: Where only the main thread may touch the device: makes it call `drain`. None
            where each lane has a thread of its own.
    """

    def __init__(
        self,
        buffers: Buffers,
        tell: Callable[[frames.MemoryAnswer], None],
        *,
        wake: Callable[[], None] | None,
    ) -> None:
        self._buffers = buffers
        self._tell = tell
        self._wake = wake
        self._lock = threading.Lock()
        self._jobs: dict[int, _Job] = {}
        self._moves: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._others = self._moves if wake is not None else queue.SimpleQueue[_Job]()
        if wake is None:
            for lane, name in ((self._moves, "moves"), (self._others, "memory")):
                threading.Thread(
                    target=self._serve, args=(lane,), name=name, daemon=True
                ).start()

    def put(self, frame: frames.MemoryOrder) -> None:
        """Do an order when those before it in its lane are done."""
        job = _Job(frame)
        with self._lock:
            self._jobs[job.ticket] = job
        (self._moves if isinstance(job.order, Move | Compare) else self._others).put(job)
        if self._wake is not None:
            self._wake()

    def cancel(self, ticket: int) -> None:
        """Stop an order; nothing happens when it is over."""
        with self._lock:
            job = self._jobs.get(ticket)
            if job is None:
                return
            job.cancelled = True
            if job.begun:
                return  # it sees for itself
            del self._jobs[ticket]
        self._tell(frames.MemoryAnswer(ticket, _stopped()))

    def drain(self) -> None:
        """Do every order that waits. Only where lanes have no threads."""
        while True:
            try:
                job = self._moves.get_nowait()
            except queue.Empty:
                return
            self._do(job)

    def _serve(self, lane: queue.SimpleQueue[_Job]) -> None:
        while True:
            self._do(lane.get())

    def _do(self, job: _Job) -> None:
        with self._lock:
            if job.cancelled:
                return  # answered already
            job.begun = True
        answer: frames.MemoryDone | DomainError
        try:
            answer = self._obey(job)
        except DomainError as error:
            answer = error
        except Exception:
            _log.exception("a memory order failed")
            answer = Internal("The worker failed; the log says more.")
        with self._lock:
            del self._jobs[job.ticket]
        self._tell(frames.MemoryAnswer(job.ticket, answer))

    def _obey(self, job: _Job) -> frames.MemoryDone:
        buffers = self._buffers
        match job.order:
            case frames.AllocateBuffer(buffer_id, size):
                buffers.allocate(buffer_id, size, self._guard(job))
                return frames.MemoryDone(size)
            case frames.FreeBuffer(buffer_id):
                return frames.MemoryDone(buffers.free(buffer_id))
            case Move() as move:
                buffers.move(move, self._guard(job))
                return frames.MemoryDone(move.length)
            case Compare() as compare:
                return frames.MemoryDone(buffers.compare(compare, self._guard(job)))
            case frames.Pin(segment):
                buffers.pin(segment)
            case frames.Unpin(segment):
                buffers.unpin(segment)
            case frames.ReleaseCached():
                buffers.release_cached()
        return frames.MemoryDone()

    def _guard(self, job: _Job) -> Guard:
        last_told = 0.0

        def progress(done: int) -> None:
            nonlocal last_told
            now = time.monotonic()
            if now - last_told >= PROGRESS_SECONDS:
                last_told = now
                self._tell(frames.MemoryAnswer(job.ticket, frames.MemoryProgress(done)))

        def check_stop() -> None:
            if job.cancelled:
                raise _stopped()

        return Guard(progress, check_stop)


def _stopped() -> Cancelled:
    return Cancelled("The memory order was stopped on request.")
