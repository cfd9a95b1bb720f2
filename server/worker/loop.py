"""The worker's side: one process that owns a device and draws for the front.

The main thread runs the engine. A second thread reads orders, so that a cancel arrives
while the engine works; a third says every second that the process lives, and how its
device's memory is. Memory orders have threads of their own (`lanes`), except where only
the main thread may touch the device.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib.metadata
import logging
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from domains.device.ports import TaskEvent
from domains.device.types import (
    OptimizationProfile,
    OptimizationWork,
    ReleaseWork,
    SelfTestWork,
)
from domains.errors import (
    Cancelled,
    DeadlineExceeded,
    DomainError,
    Internal,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.inference.types import GenerationEvent, GenerationWork, ImageEncoded
from domains.session.types import Preview
from server.worker import frames, spool
from server.worker.environment import UnsafeEnvironment, settle_environment
from server.worker.lanes import MemoryLanes
from server.worker.link import Link, LinkClosed, OversizedFrame, connect
from server.worker.message_events import MAX_PREVIEW_BYTES
from server.worker.messages import decode_to_worker, encode_from_worker
from server.worker.parent_death import die_with_parent
from server.worker.parts import Parts
from server.worker.pulse import BEAT_SECONDS, Pulse
from server.worker.startup import StartRecord

# A checkpoint without news is told this often, so that slow work is not taken for hung.
CHECKPOINT_SECONDS = 2.0
EXIT_OK, EXIT_CANNOT_START, EXIT_STICKY, EXIT_ORPHANED = 0, 1, 3, 4
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "pillow")

_log = logging.getLogger("deviceops.worker")

PartsFactory = Callable[[str], Parts]


def main(build: PartsFactory) -> None:
    """Read the start record from standard input and work until told to end.

    Args:
        build: Makes the parts for a device as torch names it; imports what is heavy
            only when it is called.

    Ends the process without unwinding libraries, whose own endings may hang.
    """
    # The front decides when a worker ends, and tells it through the link.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    record = StartRecord.from_bytes(sys.stdin.buffer.readline())
    die_with_parent(record.parent_process_id)
    logging.basicConfig(
        level=record.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        code = Worker(record, connect(record.address, record.key)).work(build)
    except LinkClosed:
        code = EXIT_ORPHANED
    _leave(code)


class _Current:
    """The run that was ordered last, shared by the reader and the main thread."""

    def __init__(self, order: frames.Run) -> None:
        self.order = order
        self.deadline = time.monotonic() + order.remaining
        self.cancelled = threading.Event()
        self.last_told = time.monotonic()

    def check(self) -> None:
        """Raise what the work is to be stopped with."""
        if self.cancelled.is_set():
            raise Cancelled("The work was stopped on request.")
        if time.monotonic() >= self.deadline:
            raise DeadlineExceeded("The time given to this work is over.")


class _Call:
    """The main thread is to look at what waits for it beside runs."""


class Worker:
    """Does what the front orders, one run at a time."""

    def __init__(self, record: StartRecord, link: Link) -> None:
        self._record = record
        self._link = link
        self._orders: queue.SimpleQueue[_Current | _Call | None] = queue.SimpleQueue()
        self._current: _Current | None = None
        self._busy = False
        self._pulse: Pulse | None = None
        self._lanes: MemoryLanes | None = None

    def work(self, build: PartsFactory) -> int:
        """Work until told to end; returns the exit code."""
        threading.Thread(target=self._read_orders, name="orders", daemon=True).start()
        try:
            settle_environment()
            parts = build(self._record.torch_device)
            self._resume_profile(parts)
        except UnsafeEnvironment as error:
            return self._cannot_start(str(error))
        except ImportError as error:
            return self._cannot_start(f"{error.name or 'A library'} is not installed for it.")
        except Exception as error:
            return self._cannot_start(
                error.message
                if isinstance(error, DomainError)
                else "The device could not be opened; the log says more."
            )
        alone = parts.single_threaded
        self._pulse = Pulse(parts, self._send)
        self._lanes = MemoryLanes(
            parts.buffers, self._tell, wake=self._call_main if alone else None
        )
        self._send(
            frames.Hello(
                frames.PROTOCOL_VERSION,
                self._record.device_id,
                os.getpid(),
                _versions(),
                memory_waits_for_runs=alone,
            )
        )
        self._pulse.start()
        while (current := self._next_run(alone)) is not None:
            if not self._run(current, parts):
                return EXIT_STICKY
        return EXIT_OK

    def _resume_profile(self, parts: Parts) -> None:
        """Run as the worker before this one did; as every other when that cannot be."""
        profile = OptimizationProfile(self._record.profile)
        if profile is OptimizationProfile.BALANCED:
            return
        work = OptimizationWork(profile)
        try:
            parts.engine.optimize(work, emit=lambda _: None, checkpoint=lambda: None)
        except DomainError as error:
            _log.warning("profile %s cannot be applied: %s", profile.value, error.message)

    def _next_run(self, alone: bool) -> _Current | None:
        """The next run; None to end."""
        while True:
            try:
                order = self._orders.get(timeout=BEAT_SECONDS if alone else None)
            except queue.Empty:
                order = _Call()
            if not isinstance(order, _Call):
                return order
            self._tend()

    def _tend(self) -> None:
        """Do what waits for the main thread, where nobody else may touch the device."""
        if self._lanes is not None and self._pulse is not None:
            self._lanes.drain()
            self._pulse.refresh()

    def _call_main(self) -> None:
        self._orders.put(_Call())

    def _tell(self, frame: frames.MemoryAnswer) -> None:
        """Send an answer to a memory order; whoever has the last one has fresh figures."""
        if not isinstance(frame.answer, frames.MemoryProgress) and self._pulse is not None:
            self._pulse.tell()
        self._send(frame)
        if isinstance(frame.answer, DomainError) and frame.answer.reason is Reason.DEVICE_LOST:
            _leave(EXIT_STICKY)

    def _cannot_start(self, why: str) -> int:
        error = Unavailable(why, reason=Reason.DEVICE_UNAVAILABLE)
        self._send(frames.Failed("", 0, error, sticky=True, traceback=traceback.format_exc()))
        return EXIT_CANNOT_START

    # Runs, in the main thread.

    def _run(self, current: _Current, parts: Parts) -> bool:
        """Do one run and say how it ended; False when the device is unusable now."""
        order = current.order
        answer: frames.Done | frames.Failed
        try:
            current.check()
            report = self._do(current, parts)
        except DomainError as error:
            sticky = error.reason is Reason.DEVICE_LOST
            answer = frames.Failed(order.session_id, order.epoch, error, sticky)
        except Exception:
            answer = frames.Failed(
                order.session_id,
                order.epoch,
                Internal("The worker failed; the log says more."),
                traceback=traceback.format_exc(),
            )
        else:
            answer = frames.Done(order.session_id, order.epoch, report)
        if self._pulse is not None:
            self._pulse.tell()
        # The front may order the next run as soon as it has the answer.
        self._busy = False
        self._send(answer)
        return not (isinstance(answer, frames.Failed) and answer.sticky)

    def _do(self, current: _Current, parts: Parts) -> frames.Report:
        order, engine = current.order, parts.engine

        def emit(event: GenerationEvent | TaskEvent) -> None:
            if isinstance(event, Preview) and len(event.jpeg) > MAX_PREVIEW_BYTES:
                _log.warning("a preview of %d bytes was left out", len(event.jpeg))
                return
            told = self._spooled(order, event) if isinstance(event, ImageEncoded) else event
            self._send(frames.Progress(order.session_id, order.epoch, told))
            current.last_told = time.monotonic()

        def checkpoint() -> None:
            current.check()
            if parts.single_threaded:
                self._tend()
            if time.monotonic() - current.last_told >= CHECKPOINT_SECONDS:
                self._send(frames.Progress(order.session_id, order.epoch))
                current.last_told = time.monotonic()

        match order.work:
            case GenerationWork() as work:
                return engine.generate(work, emit=emit, checkpoint=checkpoint)
            case SelfTestWork():
                return parts.self_test(emit=emit, checkpoint=checkpoint)
            case OptimizationWork() as task:
                return engine.optimize(task, emit=emit, checkpoint=checkpoint)
            case ReleaseWork() as release:
                return engine.release(release, emit=emit, checkpoint=checkpoint)

    def _spooled(self, order: frames.Run, image: ImageEncoded) -> frames.SpooledFile:
        name = f"{order.epoch}-{image.image_index}.{image.format.value}"
        try:
            digest = spool.write(self._record.spool_dir, name, image.data)
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            raise ResourceExhausted(
                "The disk is full; the picture could not be kept.", reason=Reason.DISK_FULL
            ) from error
        return frames.SpooledFile(
            name=name,
            sha256=digest,
            size_bytes=len(image.data),
            image_index=image.image_index,
            seed=image.seed,
            width=image.width,
            height=image.height,
            format=image.format,
        )

    # Beside the main thread.

    def _read_orders(self) -> None:
        try:
            while True:
                self._obey(decode_to_worker(self._link.receive()))
        except (LinkClosed, OversizedFrame):
            _leave(EXIT_ORPHANED)
        except Exception:
            # Without orders the process could neither be used nor stopped.
            _log.exception("reading orders failed")
            _leave(EXIT_ORPHANED)

    def _obey(self, order: frames.ToWorker) -> None:
        match order:
            case frames.Run():
                if self._busy:
                    raise frames.ProtocolError("a run was ordered while another one ran")
                self._busy = True
                self._current = _Current(order)
                self._orders.put(self._current)
            case frames.Cancel(session_id):
                current = self._current
                if current is not None and current.order.session_id == session_id:
                    current.cancelled.set()
            case frames.Shutdown():
                self._orders.put(None)
            case frames.MemoryOrder():
                self._lanes_now().put(order)
            case frames.MemoryCancel(ticket):
                self._lanes_now().cancel(ticket)

    def _lanes_now(self) -> MemoryLanes:
        if self._lanes is None:
            raise frames.ProtocolError("a memory order before the hello")
        return self._lanes

    def _send(self, frame: frames.FromWorker) -> None:
        try:
            self._link.send(encode_from_worker(frame))
        except LinkClosed:
            _leave(EXIT_ORPHANED)


def _leave(code: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
