"""Memory orders in a worker: done beside the main thread, or by it where that must be."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from domains.errors import Cancelled, DomainError, Failure
from domains.memory.backends.chunks import Guard
from domains.memory.types import Compare, Move
from server.worker.child.parts import Buffers
from server.worker.child.unexpected import failure_of_unexpected
from server.worker.link import frames

_log = logging.getLogger("deviceops.worker")


class _Task:
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
        send: Sends an answer to the front; from any thread.
        computes: Whether the device still works.
        wake: Where only the main thread may touch the device: makes it call `drain`. None
            where each lane has a thread of its own.
    """

    def __init__(
        self,
        buffers: Buffers,
        send: Callable[[frames.MemoryAnswer], None],
        computes: Callable[[], bool],
        *,
        wake: Callable[[], None] | None,
    ) -> None:
        self._buffers = buffers
        self._send = send
        self._computes = computes
        self._wake = wake
        self._lock = threading.Lock()
        self._tasks: dict[int, _Task] = {}
        self._moves: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._others = self._moves if wake is not None else queue.SimpleQueue[_Task]()
        if wake is None:
            for lane, name in ((self._moves, "moves"), (self._others, "memory")):
                threading.Thread(
                    target=self._serve, args=(lane,), name=name, daemon=True
                ).start()

    def put(self, frame: frames.MemoryOrder) -> None:
        """Do an order when those before it in its lane are done."""
        task = _Task(frame)
        with self._lock:
            self._tasks[task.ticket] = task
        (self._moves if isinstance(task.order, Move | Compare) else self._others).put(task)
        if self._wake is not None:
            self._wake()

    def cancel(self, ticket: int) -> None:
        """Stop an order; nothing happens when it is over."""
        with self._lock:
            task = self._tasks.get(ticket)
            if task is None:
                return
            task.cancelled = True
            if task.begun:
                return  # it sees for itself
            del self._tasks[ticket]
        self._send(frames.MemoryAnswer(ticket, _stopped().failure()))

    def drain(self) -> None:
        """Do every order that waits. Only where lanes have no threads."""
        while True:
            try:
                task = self._moves.get_nowait()
            except queue.Empty:
                return
            self._do(task)

    def _serve(self, lane: queue.SimpleQueue[_Task]) -> None:
        while True:
            self._do(lane.get())

    def _do(self, task: _Task) -> None:
        with self._lock:
            if task.cancelled:
                return  # answered already
            task.begun = True
        answer: frames.MemoryDone | Failure
        try:
            answer = self._obey(task)
        except DomainError as error:
            answer = error.failure()
        except Exception as error:
            _log.exception("a memory order failed")
            answer = failure_of_unexpected(error, self._computes)
        with self._lock:
            del self._tasks[task.ticket]
        self._send(frames.MemoryAnswer(task.ticket, answer))

    def _obey(self, task: _Task) -> frames.MemoryDone:
        buffers = self._buffers
        match task.order:
            case frames.AllocateBuffer(buffer_id, size):
                buffers.allocate(buffer_id, size, self._guard(task))
                return frames.MemoryDone(size)
            case frames.FreeBuffer(buffer_id):
                return frames.MemoryDone(buffers.free(buffer_id))
            case Move() as move:
                buffers.move(move, self._guard(task))
                return frames.MemoryDone(move.length)
            case Compare() as compare:
                return frames.MemoryDone(buffers.compare(compare, self._guard(task)))
            case frames.Pin(segment):
                buffers.pin(segment)
            case frames.Unpin(segment):
                buffers.unpin(segment)
            case frames.ReleaseCached():
                buffers.release_cached()
        return frames.MemoryDone()

    def _guard(self, task: _Task) -> Guard:
        def progress(done: int) -> None:
            self._send(frames.MemoryAnswer(task.ticket, frames.MemoryProgress(done)))

        def check_stop() -> None:
            if task.cancelled:
                raise _stopped()

        return Guard(progress, check_stop)


def _stopped() -> Cancelled:
    return Cancelled("The memory order was stopped on request.")
