"""A device's place for a worker: keeps one there, and gives it one run at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

import structlog

from domains.device.types import (
    Device,
    DeviceFigures,
    DeviceState,
    OptimizationProfile,
    WorkerStatus,
)
from domains.errors import DeadlineExceeded, DomainError
from domains.session.errors import ShuttingDown
from domains.session.jobs import WorkPaused
from server.worker.front.child_options import ChildOptions
from server.worker.front.death import Death, death_of
from server.worker.front.environment import child_environment
from server.worker.front.judge import Judge, state_after, unjudged
from server.worker.front.order_steps import steps_of
from server.worker.front.refusals import lost, out_of_use
from server.worker.front.restart import RestartRules
from server.worker.front.runs import Run
from server.worker.front.spool import Spool
from server.worker.front.supervisor import Supervisor
from server.worker.front.timing import WorkerTiming
from server.worker.link.frames import MemoryDone, Order

_DEFECT_SECONDS = 5.0
_OUT_OF_USE = (DeviceState.QUARANTINED, DeviceState.LOST, DeviceState.UNAVAILABLE)

_log = structlog.get_logger("deviceops.worker")


class Place:
    """Starts the device's worker, starts another when it dies, and knows how it stands.

    Args:
        device: Whose place it is.
        command: Starts a worker.
        spool: Where pictures go.
        child: What the worker is told.
        timing: How long to wait for what.
        rules: When to start again.
        on_change: Called on the loop at each change of state.
        on_end: Called on the loop at each worker's end: its buffers are gone.
        profile_of: Which profile each new worker of a device is to run with.
    """

    def __init__(
        self,
        device: Device,
        command: Sequence[str],
        spool: Spool,
        *,
        child: ChildOptions,
        timing: WorkerTiming,
        rules: RestartRules,
        on_change: Callable[[str, WorkerStatus], None],
        on_end: Callable[[str], None],
        profile_of: Callable[[str], OptimizationProfile],
    ) -> None:
        self._device = device
        self._command = command
        self._spool = spool
        self._child = child
        self._timing = timing
        self._judge = Judge(device.device_id, rules)
        self._last_run: Run | None = None
        self._on_change = on_change
        self._on_end = on_end
        self._profile_of = profile_of
        self._state = DeviceState.STARTING
        self._explanation = ""
        self._retry_at = 0.0
        self._start_seconds = 0.0
        self._lives = 0  # workers started
        self._settled = 0  # the last of them that became ready or died
        self._worker: Supervisor | None = None
        self._runs: list[Run] = []  # the first may have begun, the others wait
        self._settling: set[asyncio.Task[None]] = set()
        self._replacing = 0
        self._closing = False
        self._changed = asyncio.Event()
        self._hurried = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def node(self) -> str:
        """The machine of a cluster where it works; empty for this one."""
        return self._device.node

    def status(self) -> WorkerStatus:
        """How the worker is now."""
        worker = self._worker
        if worker is None:
            return WorkerStatus(self._state, self._explanation)
        how = (self._state, self._explanation)
        return WorkerStatus(
            *(unjudged(*how) if worker.ended.done() else how),
            process_id=worker.process_id,
            start_time=worker.start_time,
            restart_count=self._lives - 1,
            heartbeat_time=worker.conversation.heartbeat_time,
            progress_time=worker.conversation.progress_time,
            resident_bytes=worker.conversation.resident_bytes,
            software_versions=worker.software_versions,
        )

    def figures(self) -> DeviceFigures | None:
        """The device's memory as the living worker last reported it."""
        worker = self._worker
        if worker is None or self._state is not DeviceState.READY or worker.ended.done():
            return None
        return worker.conversation.figures

    @property
    def stale_frames(self) -> int:
        """Frames from this worker about runs that were over."""
        return 0 if self._worker is None else self._worker.conversation.stale_frames

    # Life.

    def describe(self, device: Device) -> None:
        """Know the device as it was found last: its driver may number it otherwise now.

        Counts for the next worker; the one that lives keeps the number it began with.
        """
        self._device = device

    def open(self) -> None:
        """Start the worker and keep one there from now on."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def close(self, grace: float) -> None:
        """End the worker, letting its run finish for `grace` seconds; none comes after."""
        self._closing = True
        self._hurried.set()
        self._notify()
        if self._worker is not None:
            await self._worker.stop(grace)
        if self._keeping is not None:
            await self._keeping

    async def replace(self, force: bool) -> None:
        """Put a new worker in the place; see `WorkerPool.restart` for errors."""
        self._replacing += 1  # runs that have not begun wait for the new worker
        try:
            if self._runs and self._runs[0].begun and not force:
                await self._runs[0].finished.wait()
            awaited = self._lives + 1
            self._judge.forgive()
            if self._worker is not None:
                self._worker.kill("was replaced on request", deliberate=True)
            self._hurried.set()
            while self._settled < awaited and not self._closing:
                await self._change()
        finally:
            self._replacing -= 1
            self._notify()
        if self._state is not DeviceState.READY:
            raise self._unavailable()

    async def _keep(self) -> None:
        while not self._closing:
            try:
                await self._keep_one()
            except Exception:
                _log.exception("worker_place_failed", device_id=self._device.device_id)
                await self._pause(_DEFECT_SECONDS)
        self._become(DeviceState.UNAVAILABLE, "The server is shutting down.")
        self._end_work(self._unavailable)

    async def _keep_one(self) -> None:
        """A worker from its start to its end, what follows, and the pause after it."""
        lives = self._lives
        try:
            death = await self._live()
        except Exception as error:
            self._lives = lives + 1
            death = await self._broken_off(error)
        if self._closing:
            return
        verdict, repeated = await self._judge.judge(death, self._last_run)
        self._retry_at = time.monotonic() + verdict.delay
        self._settled = self._lives
        self._become(state_after(death, verdict), death.explanation)
        self._end_work(partial(self._lost, death) if repeated is None else lambda: repeated)
        await self._pause(verdict.delay)

    async def _broken_off(self, error: Exception) -> Death:
        """The start did not get as far as a worker, or not beyond it."""
        if self._worker is not None and not self._worker.ended.done():
            self._worker.kill("could not be kept")
            await asyncio.wait([self._worker.ended])
        return death_of(error, "its spool folder cannot be made")

    async def _live(self) -> Death:
        """One worker from its start to its end."""
        self._hurried.clear()
        self._last_run = None
        began = time.monotonic()
        spool_dir = await asyncio.to_thread(self._spool.folder_of, self._device.device_id)
        if self._closing:
            return Death("The worker was not started.", deliberate=True)
        self._worker = worker = Supervisor(
            self._device,
            self._command,
            child_environment(),
            self._spool,
            spool_dir,
            child=self._child,
            timing=self._timing,
            profile=self._profile_of(self._device.device_id),
        )
        self._lives += 1
        self._hurried.clear()  # this is the one that was asked for
        if await worker.start() and not self._closing:
            self._start_seconds = time.monotonic() - began
            self._settled = self._lives
            self._judge.started()
            self._become(DeviceState.READY, "")
        return await worker.ended

    async def _pause(self, delay: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._hurried.wait()

    def _become(self, state: DeviceState, explanation: str) -> None:
        self._state, self._explanation = state, explanation
        self._notify()
        self._on_change(self._device.device_id, self.status())

    # Runs.

    async def begin(self, run: Run) -> None:
        """Give `run` to the worker once there is one and it is idle.

        Raises:
            Unavailable: The device is quarantined, or the server is shutting down.
            DeadlineExceeded: The run's time is over.
            ModelBarred: Its model ended too many workers of this device.
            DomainError: What the run was cancelled with.
            WorkPaused: It was asked to pause before it began.
        """
        self._runs.append(run)
        await self._judge.check(run.job)
        while (worker := self._worker_for(run)) is None:
            remaining = run.deadline - time.monotonic()
            if remaining <= 0:
                raise DeadlineExceeded("The time given was over before the device was ready.")
            await self._change(remaining)
        worker.begin(run)
        self._last_run = run

    def _worker_for(self, run: Run) -> Supervisor | None:
        """The worker, if it can take `run` now; raises when `run` is not to wait."""
        if run.stop_error is not None or run.pausing:
            raise run.stop_error or WorkPaused
        if self._closing or self._state in _OUT_OF_USE:
            raise self._unavailable()
        worker = self._worker
        ready = self._state is DeviceState.READY and not self._replacing
        if not ready or worker is None or not worker.usable or self._runs[0] is not run:
            return None
        return None if run.deadline <= time.monotonic() else worker

    def cancel(self, session_id: str, error: DomainError) -> None:
        """Stop the run of that session with `error`; nothing happens when it is not here."""
        for run in self._runs:
            if run.session_id == session_id:
                self._stop(run, error)

    def pause(self, session_id: str) -> None:
        """Have the run of that session pause; nothing happens when it is not here."""
        for run in self._runs:
            if run.session_id == session_id:
                run.pausing = True
                self._notify()
                if run.begun and self._worker is not None:
                    self._worker.pause_run(run)

    async def settle(self, run: Run, error: DomainError) -> None:
        """Stop `run` unless it is over; returns when the worker is idle or gone."""
        # Goes on when the caller is cancelled: the place stays taken until it is done.
        task = asyncio.get_running_loop().create_task(self._settle(run, error))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)

    async def _settle(self, run: Run, error: DomainError) -> None:
        if run.begun:
            self._stop(run, error)
            await run.finished.wait()
            if self._worker is not None and self._worker.usable:
                self._judge.worked(run)
        if run in self._runs:
            self._runs.remove(run)
        self._notify()

    def _stop(self, run: Run, error: DomainError) -> None:
        if run.begun and self._worker is not None:
            self._worker.stop_run(run, error)
        elif run.stop_error is None:
            run.stop_error = error
            self._notify()

    def _end_work(self, error: Callable[[], DomainError]) -> None:
        """The worker is gone, and with it its buffers, its memory orders and its run: whoever
        hears of the run finds the rest settled."""
        if self._worker is not None:
            self._on_end(self._device.device_id)
            self._worker.conversation.orders.fail_all(error)
        if self._runs and self._runs[0].begun:
            self._runs[0].finish(error())

    # Memory orders.

    async def order(
        self, order: Order, *, patience: float = 0.0
    ) -> AsyncGenerator[int | MemoryDone]:
        """Have the worker do `order`; yields bytes done so far, and how it ended last.

        Closing the generator early stops the order and returns when it has stopped. Waits
        `patience` seconds for a worker that is starting or being replaced.

        Raises:
            Unavailable: There is no worker, or it was lost.
            DeadlineExceeded: WORKER_HUNG.
            DomainError: Whatever the worker refused with.
        """
        worker = await self._awake(patience)
        async with contextlib.aclosing(steps_of(worker, order)) as steps:
            async for step in steps:
                yield step

    async def _awake(self, patience: float) -> Supervisor:
        """The worker, once it can be given a memory order."""
        until = time.monotonic() + patience
        while True:
            worker = self._worker
            if worker is not None and self._state is DeviceState.READY and worker.usable:
                return worker
            remaining = until - time.monotonic()
            if remaining <= 0 or self._closing or self._state in _OUT_OF_USE:
                raise self._unavailable()
            await self._change(remaining)

    # Why it cannot work now.

    def _lost(self, death: Death) -> DomainError:
        return lost(self._device.device_id, death, self._retry_after())

    def _unavailable(self) -> DomainError:
        if self._closing:
            return ShuttingDown()
        device_id, after = self._device.device_id, self._retry_after()
        return out_of_use(device_id, self._state, self._explanation, after)

    def _retry_after(self) -> float:
        return max(self._retry_at - time.monotonic(), 0.0) + self._start_seconds

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, patience: float | None = None) -> None:
        """Wait until something changes, or for `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._changed.wait()
