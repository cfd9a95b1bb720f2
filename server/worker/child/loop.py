"""The worker's side: one process that owns a device and draws for the front.

The main thread runs the engine. A second thread reads orders, so that a cancel arrives
while the engine works; a third says every second that the process lives, and how its
device's memory is. Memory orders have threads of their own (`memory_lanes`), except where only
the main thread may touch the device.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.metadata
import logging
import os
import platform
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union

from domains import failpoints
from domains.codec import encode
from domains.device.jobs import OptimizationJob
from domains.device.types import OptimizationProfile
from domains.errors import DomainError, Failure, Reason, Unavailable
from domains.shortages import shortage_of
from server.worker.child.code_folder import prepare_code_dir
from server.worker.child.environment import UnsafeEnvironment, settle_environment
from server.worker.child.memory_lanes import MemoryLanes
from server.worker.child.parent_death import die_with_parent
from server.worker.child.parts import Parts, Peak
from server.worker.child.pulse import BEAT_SECONDS, Pulse
from server.worker.child.run import Run, RunContext, UnheardContext
from server.worker.child.unexpected import failure_of_unexpected
from server.worker.link import frames
from server.worker.link.connection import Link, LinkClosed, OversizedFrame, connect
from server.worker.link.exits import (
    EXIT_CANNOT_START,
    EXIT_OK,
    EXIT_ORPHANED,
    EXIT_STICKY,
    leave,
)
from server.worker.link.start_record import StartRecord

_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "pillow")

_log = logging.getLogger("deviceops.worker")

PartsFactory = Callable[[str, Path | None], Parts]


def main(build: PartsFactory) -> None:
    """Read the start record from standard input and work until told to end.

    Args:
        build: Makes the parts for a device as torch names it; imports what is heavy
            only when it is called.

    Ends the process without unwinding libraries, whose own endings may hang.
    """
    # The front decides when a worker ends, and tells it through the link.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
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
    leave(code)


class _Attention:
    """Asks the main thread to do what waits for it beside runs."""


class Worker:
    """Does what the front orders, one run at a time."""

    def __init__(self, record: StartRecord, link: Link) -> None:
        self._record = record
        self._link = link
        self._runs: queue.SimpleQueue[Run | _Attention | None] = queue.SimpleQueue()
        self._current: Run | None = None
        self._job_types: Any = None
        self._busy = False
        self._greeted = threading.Event()
        self._pulse: Pulse | None = None
        self._lanes: MemoryLanes | None = None

    def work(self, build: PartsFactory) -> int:
        """Work until told to end; returns the exit code."""
        try:
            threading.Thread(target=self._read_orders, name="orders", daemon=True).start()
            parts = self._open(build)
        except UnsafeEnvironment as error:
            return self._cannot_start(_unusable(str(error)))
        except Exception as error:
            return self._cannot_start(_refusal(error))
        self._send(
            frames.Hello(
                frames.PROTOCOL_VERSION,
                self._record.device_id,
                os.getpid(),
                _versions(),
                memory_waits_for_runs=parts.single_threaded,
            )
        )
        self._greeted.set()
        while (run := self._next_run(parts.single_threaded)) is not None:
            if not self._do(run, parts):
                return EXIT_STICKY
        return EXIT_OK

    def _open(self, build: PartsFactory) -> Parts:
        """Everything that a run needs, threads too."""
        settle_environment()
        device = self._record.torch_device
        parts = build(device, prepare_code_dir(self._record.code_dir, device))
        self._resume_profile(parts)
        self._job_types = Union[tuple(parts.handlers)]  # noqa: UP007 - it is known at run time only
        self._lanes = MemoryLanes(
            parts.buffers,
            self._tell,
            parts.computes,
            wake=self._call_main if parts.single_threaded else None,
        )
        self._pulse = Pulse(parts, self._send)
        self._pulse.start(after=self._greeted)
        return parts

    def _resume_profile(self, parts: Parts) -> None:
        """Run as the worker before this one did; as every other when that cannot be."""
        profile = self._record.profile
        if profile is OptimizationProfile.BALANCED:
            return
        try:
            parts.handlers[OptimizationJob](OptimizationJob(profile), UnheardContext())
        except DomainError as error:
            _log.warning("profile %s cannot be applied: %s", profile.value, error.message)

    def _next_run(self, alone: bool) -> Run | None:
        """The next run; None to end."""
        while True:
            try:
                order = self._runs.get(timeout=BEAT_SECONDS if alone else None)
            except queue.Empty:
                order = _Attention()
            if not isinstance(order, _Attention):
                return order
            self._tend()

    def _tend(self) -> None:
        """Do what waits for the main thread, where nobody else may touch the device."""
        if self._lanes is not None and self._pulse is not None:
            self._lanes.drain()
            self._pulse.refresh()

    def _call_main(self) -> None:
        self._runs.put(_Attention())

    def _tell(self, frame: frames.MemoryAnswer) -> None:
        """Send an answer to a memory order; whoever has the last one has fresh figures."""
        if not isinstance(frame.answer, frames.MemoryProgress) and self._pulse is not None:
            self._pulse.tell()
        self._send(frame)
        if isinstance(frame.answer, Failure) and frame.answer.reason is Reason.DEVICE_LOST:
            leave(EXIT_STICKY)

    def _cannot_start(self, error: DomainError) -> int:
        self._send(frames.CannotStart(error.failure(), _traceback()))
        return EXIT_CANNOT_START

    # Runs, in the main thread.

    def _do(self, run: Run, parts: Parts) -> bool:
        """Do one run and say how it ended; False when the device is unusable now."""
        session_id, epoch = run.order.session_id, run.order.epoch
        tend = self._tend if parts.single_threaded else _nothing
        context = RunContext(run, self._record.spool_dir, self._send, tend)
        answer: frames.Done | frames.Failed
        stretch: Peak | None = None
        try:
            run.check()
            stretch = parts.stretch()
            failpoints.reach("worker.begun")
            report = parts.handlers[type(run.job)](run.job, context)
            failpoints.reach("worker.done")
            answer = frames.Done(session_id, epoch, frames.raw(report), stretch.peak())
        except DomainError as error:
            answer = _failed(run, error.failure(), stretch)
        except Exception as error:
            told = _traceback()
            failure = failure_of_unexpected(error, parts.computes)
            answer = _failed(run, failure, stretch, told)
        if self._pulse is not None:
            self._pulse.tell()
        # The front may order the next run as soon as it has the answer.
        self._busy = False
        self._send(answer)
        return not (isinstance(answer, frames.Failed) and answer.sticky)

    # Beside the main thread.

    def _read_orders(self) -> None:
        try:
            while True:
                self._obey(frames.decode_to_worker(self._link.receive()))
        except (LinkClosed, OversizedFrame):
            leave(EXIT_ORPHANED)
        except Exception:
            # Without orders the process could neither be used nor stopped.
            _log.exception("reading orders failed")
            leave(EXIT_ORPHANED)

    def _obey(self, order: frames.ToWorker) -> None:
        match order:
            case frames.RunOrder():
                if self._busy:
                    raise frames.ProtocolError("a run was ordered while another one ran")
                self._busy = True
                job = frames.decoded(self._job_types, bytes(order.job))
                self._current = Run(order, job)
                self._runs.put(self._current)
            case frames.Cancel(session_id):
                if (current := self._run_of(session_id)) is not None:
                    current.cancelled.set()
            case frames.Pause(session_id):
                if (current := self._run_of(session_id)) is not None:
                    current.pausing.set()
            case frames.Shutdown():
                self._runs.put(None)
            case frames.MemoryOrder():
                self._lanes_now().put(order)
            case frames.MemoryCancel(ticket):
                self._lanes_now().cancel(ticket)

    def _run_of(self, session_id: str) -> Run | None:
        """The run of that session, if it is the one that was ordered last."""
        current = self._current
        return current if current and current.order.session_id == session_id else None

    def _lanes_now(self) -> MemoryLanes:
        if self._lanes is None:
            raise frames.ProtocolError("a memory order before the hello")
        return self._lanes

    def _send(self, frame: frames.FromWorker) -> None:
        try:
            self._link.send(encode(frame))
        except LinkClosed:
            leave(EXIT_ORPHANED)


def _refusal(error: Exception) -> DomainError:
    """Why a worker cannot start, for people."""
    if isinstance(error, DomainError):
        return error
    shortage = shortage_of(error)
    if shortage is not None:
        return shortage
    if isinstance(error, ImportError):
        return _unusable(f"{error.name or 'A library'} is not installed for it.")
    return _unusable("The device could not be opened; the log says more.")


def _unusable(why: str) -> DomainError:
    return Unavailable(why, reason=Reason.DEVICE_UNAVAILABLE)


def _failed(run: Run, failure: Failure, stretch: Peak | None, told: str = "") -> frames.Failed:
    sticky = failure.reason is Reason.DEVICE_LOST
    peak = None
    if stretch is not None and not sticky:  # a device that is lost is asked nothing more
        with contextlib.suppress(Exception):
            peak = stretch.peak()
    return frames.Failed(run.order.session_id, run.order.epoch, failure, peak, sticky, told)


def _nothing() -> None:
    """Nothing waits for the main thread."""


def _traceback() -> str:
    # Its end says what happened.
    return traceback.format_exc()[-frames.LONGEST_TRACEBACK :]


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
