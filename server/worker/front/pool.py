"""The workers of every device: started, replaced when they die, given work."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import structlog

from domains.device.ports import StatusListener
from domains.device.types import (
    Device,
    DeviceFigures,
    DeviceKind,
    DeviceState,
    OptimizationProfile,
    WorkerStatus,
)
from domains.errors import Cancelled, Reason, Unavailable
from domains.memory.errors import MemoryElsewhere
from domains.memory.types import Compare, Move, Segment
from domains.session.errors import ShuttingDown
from domains.session.jobs import Job, JobEvent, Report
from server.worker.front.child_options import ChildOptions
from server.worker.front.environment import carrier_command, worker_command
from server.worker.front.place import Place
from server.worker.front.restart import RestartRules
from server.worker.front.runs import Run
from server.worker.front.spool import Spool
from server.worker.front.timing import WorkerTiming
from server.worker.link import frames

_log = structlog.get_logger("deviceops.worker")

Listener = TypeVar("Listener")
_BALANCED = OptimizationProfile.BALANCED


@dataclass(frozen=True)
class WorkerOptions:
    """How workers are run.

    `python` names interpreters by device kind; others use the front's own.
    """

    spool_dir: Path
    python: Mapping[DeviceKind, Path] = field(default_factory=dict)
    log_level: str = "info"
    timing: WorkerTiming = field(default_factory=WorkerTiming)
    hang: Mapping[DeviceKind, float] = field(default_factory=dict)
    """Seconds without progress for kinds that need more or less than `timing` says."""
    restart: RestartRules = field(default_factory=RestartRules)
    cluster: str = ""
    """Where the head of the Ray cluster listens that devices with a `node` are in."""
    code_dir: Path | None = None
    """Where compiled code lies; None: nothing is compiled."""

    def timing_of(self, kind: DeviceKind) -> WorkerTiming:
        """How long to wait for workers of that kind of device."""
        return replace(self.timing, hang=self.hang.get(kind, self.timing.hang))


class WorkerPool:
    """One worker for each device.

    See the ports `Workers` and `DeviceRuns` of devices, `DeviceBuffers` of memory and
    `GenerationPool` of inference.

    Belongs to one event loop, in the main thread.

    Args:
        options: How workers are run.
        command: What starts a device's worker; by default the product's own.
        profile_of: Which profile each new worker of a device is to run with.
    """

    def __init__(
        self,
        options: WorkerOptions,
        *,
        command: Callable[[Device], Sequence[str]] | None = None,
        profile_of: Callable[[str], OptimizationProfile] = lambda _: _BALANCED,
    ) -> None:
        self._options = options
        self._command = command or self._product_command
        self._profile_of = profile_of
        self._spool = Spool(options.spool_dir)
        self._places: dict[str, Place] = {}
        self._listeners: list[StatusListener] = []
        self._on_lost: list[Callable[[str], None]] = []
        self._epochs = itertools.count(1)
        self._sweeping = asyncio.Lock()
        self._swept = False
        self._stopping = False

    # Life.

    async def start(self, devices: Sequence[Device]) -> None:
        """Start a worker for each device that has none; returns before they are ready.

        Workers to come of the others use what `devices` says of theirs. The first call
        deletes what earlier servers left in the spool folder.

        Raises:
            Unavailable: The pool is being stopped.
            OSError: The spool folder cannot be made or swept.
        """
        if self._stopping:
            raise ShuttingDown()
        async with self._sweeping:
            if not self._swept:
                await asyncio.to_thread(self._spool.sweep)
                self._swept = True
        for device in devices:
            if device.device_id in self._places:
                self._places[device.device_id].describe(device)
            elif not self._stopping:
                place = Place(
                    device,
                    self._command(device),
                    self._spool,
                    child=ChildOptions(self._options.log_level, self._options.code_dir),
                    timing=self._options.timing_of(device.kind),
                    rules=self._options.restart,
                    on_change=self._announce,
                    on_end=self._announce_loss,
                    profile_of=self._profile_of,
                )
                self._places[device.device_id] = place
                place.open()

    async def stop(self, grace: float) -> None:
        """End every worker, letting what runs finish for `grace` seconds.

        Runs that have not finished by then, and those that wait, raise Unavailable
        (SHUTTING_DOWN). No process is left when it returns.
        """
        self._stopping = True
        await asyncio.gather(*(place.close(grace) for place in self._places.values()))

    async def restart(self, device_id: str, force: bool = False) -> None:
        """Replace a device's worker, after its run or at once; lifts a quarantine.

        Returns when the new worker is ready. With `force` a run raises WORKER_LOST.

        Raises:
            Unavailable: DEVICE_UNAVAILABLE: there is no worker, or the new one died too.
        """
        await self._place(device_id).replace(force)

    # The device domain's port.

    def status(self, device_id: str) -> WorkerStatus:
        """How the worker of `device_id` is; UNAVAILABLE when there is none."""
        place = self._places.get(device_id)
        if place is None:
            return WorkerStatus(DeviceState.UNAVAILABLE, "The device has no worker.")
        return place.status()

    def stale_frames(self, device_id: str) -> int:
        """How many frames about runs that were over its worker has sent."""
        return self._places[device_id].stale_frames

    def subscribe(self, listener: StatusListener) -> Callable[[], None]:
        """Have `listener` called, on the loop, when a worker's state changes.

        Returns:
            What ends it; calling that twice is harmless.
        """
        return _listen(self._listeners, listener)

    def figures(self, device_id: str) -> DeviceFigures | None:
        """The device's memory as its worker last reported it; see the port `DeviceRuns`."""
        place = self._places.get(device_id)
        return None if place is None else place.figures()

    # Runs, one at a time on each device.

    async def run(
        self, device_id: str, session_id: str, job: Job[Report], *, remaining: float
    ) -> AsyncGenerator[JobEvent | Report]:
        """Do `job` on the device's worker; see the port `JobRunner`."""
        place = self._place(device_id)
        run = Run(session_id, next(self._epochs), job, time.monotonic() + remaining)
        try:
            await place.begin(run)
            async with aclosing(run.outcomes()) as outcomes:
                async for outcome in outcomes:
                    yield outcome
        finally:
            run.close()
            await place.settle(run, Cancelled("The work is not wanted any more."))

    def cancel(self, device_id: str, session_id: str) -> None:
        """Ask a run to stop; see the ports."""
        place = self._places.get(device_id)
        if place is not None:
            place.cancel(session_id, Cancelled("The work was stopped on request."))

    def pause(self, device_id: str, session_id: str) -> None:
        """Ask a run to pause; see the port `ModelRunner`."""
        place = self._places.get(device_id)
        if place is not None:
            place.pause(session_id)

    # Memory orders, beside the runs; see the port `DeviceBuffers`.

    async def allocate(self, device_id: str, buffer_id: str, size: int) -> None:
        """Take device memory; waits for a worker that is starting or being replaced."""
        order = frames.AllocateBuffer(buffer_id, size)
        await self._do(device_id, order, patience=self._options.timing.start)

    async def free(self, device_id: str, buffer_id: str) -> int:
        """Give device memory back; returns its bytes."""
        return (await self._do(device_id, frames.FreeBuffer(buffer_id))).done

    async def move(self, device_id: str, move: Move) -> AsyncGenerator[int]:
        """Copy bytes; yields how many are done so far."""
        async with aclosing(self._order(device_id, move)) as steps:
            async for step in steps:
                yield step.done if isinstance(step, frames.MemoryDone) else step

    async def compare(self, device_id: str, compare: Compare) -> AsyncGenerator[int]:
        """Compare bytes; yields how many are equal so far, ends early at a difference."""
        async with aclosing(self._order(device_id, compare)) as steps:
            async for step in steps:
                yield step.done if isinstance(step, frames.MemoryDone) else step

    async def pin(self, device_id: str, segment: Segment) -> None:
        """Page-lock shared host memory; waits for a worker like `allocate`."""
        order = frames.Pin(segment)
        await self._do(device_id, order, patience=self._options.timing.start)

    async def unpin(self, device_id: str, segment: Segment) -> None:
        """Undo `pin`."""
        await self._do(device_id, frames.Unpin(segment))

    async def release_cached(self, device_id: str) -> None:
        """Give memory back that the device's allocator keeps for reuse."""
        await self._do(device_id, frames.ReleaseCached())

    def on_buffers_lost(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have `listener` called when a device's buffers are gone with their worker."""
        return _listen(self._on_lost, listener)

    def _order(
        self, device_id: str, order: frames.Order, patience: float = 0.0
    ) -> AsyncGenerator[int | frames.MemoryDone]:
        place = self._place(device_id)
        if place.node and not isinstance(order, frames.ReleaseCached):
            raise MemoryElsewhere(device_id, place.node)
        return place.order(order, patience=patience)

    async def _do(
        self, device_id: str, order: frames.Order, *, patience: float = 0.0
    ) -> frames.MemoryDone:
        async with aclosing(self._order(device_id, order, patience)) as steps:
            async for step in steps:
                if isinstance(step, frames.MemoryDone):
                    return step
        raise AssertionError("an order ends with its outcome or an error")

    def _place(self, device_id: str) -> Place:
        if self._stopping:
            raise ShuttingDown()
        place = self._places.get(device_id)
        if place is None:
            raise Unavailable(
                f"Device {device_id} has no worker.",
                reason=Reason.DEVICE_UNAVAILABLE,
                metadata={"device_id": device_id},
            )
        return place

    def _announce(self, device_id: str, status: WorkerStatus) -> None:
        for listener in tuple(self._listeners):
            with _kept_going():
                listener(device_id, status)

    def _announce_loss(self, device_id: str) -> None:
        for listener in tuple(self._on_lost):
            with _kept_going():
                listener(device_id)

    def _product_command(self, device: Device) -> Sequence[str]:
        if device.node:
            return carrier_command(self._options.cluster, device.node)
        return worker_command(self._options.python.get(device.kind))


@contextmanager
def _kept_going() -> Iterator[None]:
    """What a listener raises is reported, and keeps nobody else from hearing."""
    try:
        yield
    except Exception:
        _log.exception("listener_failed")


def _listen(listeners: list[Listener], listener: Listener) -> Callable[[], None]:
    listeners.append(listener)

    def end() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return end
