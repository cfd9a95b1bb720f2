"""Doing about fragmentation what a platform really can, and saying what it gained."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from domains.device.core import DeviceInventory
from domains.device.jobs import ReleaseJob
from domains.device.ports import DeviceRuns
from domains.device.types import Device
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.ports import DeviceBuffers
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import (
    Outcome,
    Phase,
    PhaseStarted,
    SessionKind,
    WorkOptions,
)
from domains.values import ByteFigure

_RELEASED = "what the allocator held before, less what it holds now"
_ASKED, _ASK_SECONDS = 60, 0.05
_UNKNOWN = ByteFigure.unknown("the device's worker has sent no figures yet")


class Depth(Enum):
    """How far to go; each does what those before it do."""

    RELEASE = "release"
    RELOAD = "reload"
    RECYCLE_WORKER = "recycle-worker"


@dataclass(frozen=True)
class DefragmentRequest:
    """Defragment a device; `digest` stands for the whole request."""

    device_id: str
    depth: Depth
    options: WorkOptions = field(default_factory=WorkOptions)
    digest: bytes = b""


class DefragmentAction(Enum):
    """What a defragmentation did."""

    BLOCKS_RELEASED = "blocks-released"
    MODELS_RELOADED = "models-reloaded"
    WORKER_RECYCLED = "worker-recycled"


@dataclass(frozen=True)
class Done:
    """What was done in order, and to what.

    `released` are the unused blocks that went back; `model_ids` left the device, whether
    they are back or load again at the next use; `lost_bytes` are those of allocations that
    ended with the worker.
    """

    actions: tuple[DefragmentAction, ...]
    released: ByteFigure
    model_ids: tuple[str, ...] = ()
    lost_bytes: int = 0


@dataclass(frozen=True)
class DefragmentReport:
    """What was done, and what it gained."""

    depth: Depth
    free_before: ByteFigure
    free_after: ByteFigure
    largest_free_before: ByteFigure
    largest_free_after: ByteFigure
    done: Done


class Defragmentation:
    """Defragments devices, each in its device's queue.

    Args:
        devices: Finds the device that a request names.
        runs: The devices' workers.
        buffers: Gives back what their allocators keep.
        monitor: Reads what is free.
    """

    def __init__(
        self,
        devices: DeviceInventory,
        runs: DeviceRuns,
        buffers: DeviceBuffers,
        monitor: MemoryMonitor,
    ) -> None:
        self._monitor = monitor
        self._devices = devices
        self._runs = runs
        self._buffers = buffers

    def run(self, request: DefragmentRequest) -> SessionRequest:
        """Defragmenting as a session, which reports a `DefragmentReport`.

        Recycling a worker loses what clients have allocated there.

        Preparing it raises:
            InvalidMemoryRequest: The options break rules.
            DeviceNotFound, DeviceUnavailable: The device cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: DefragmentRequest) -> SessionPlan:
        InvalidMemoryRequest.check(*check_options(request.options, "options"))
        device = await self._devices.resolve(request.device_id)

        async def work(session: Session) -> Outcome:
            return Outcome(report=await self._work(session, device, request.depth))

        return SessionPlan(
            kind=SessionKind.MEMORY_TASK,
            device_id=device.device_id,
            expected_phases=_PHASES[request.depth],
            work=work,
        )

    async def _work(self, session: Session, device: Device, depth: Depth) -> DefragmentReport:
        free_before, largest_before = await self._figures(device.device_id)
        session.record(PhaseStarted(Phase.RELEASING))
        match depth:
            case Depth.RELEASE:
                done = await self._release(device)
            case Depth.RELOAD:
                done = await self._reload(session, device)
            case Depth.RECYCLE_WORKER:
                done = await self._recycle(session, device.device_id)
        free, largest = await self._figures(device.device_id)
        return DefragmentReport(depth, free_before, free, largest_before, largest, done)

    async def _release(self, device: Device) -> Done:
        before = self._reserved(device.device_id)
        await self._buffers.release_cached(device.device_id)
        after = self._reserved(device.device_id)
        if device.traits.in_main_memory:
            released = ByteFigure.unknown("the operating system takes pages back by itself")
        elif before is None or after is None:
            released = ByteFigure.unknown("what the allocator held before or after is unknown")
        else:
            released = ByteFigure.measured(max(0, before - after), _RELEASED)
        return Done((DefragmentAction.BLOCKS_RELEASED,), released)

    async def _reload(self, session: Session, device: Device) -> Done:
        report = await run_job(self._runs, session, ReleaseJob(reload=True))
        names = tuple(dict.fromkeys(part.model_id for part in report.released))
        moved = (DefragmentAction.MODELS_RELOADED,) if names else ()
        done = await self._release(device)
        return Done(moved + done.actions, done.released, names)

    async def _recycle(self, session: Session, device_id: str) -> Done:
        figures = self._runs.figures(device_id)
        leased = 0 if figures is None else figures.leased_bytes
        names = () if figures is None else tuple(p.model_id for p in figures.models)
        session.record(PhaseStarted(Phase.STARTING_WORKER))
        await self._runs.restart(device_id)
        return Done(
            (DefragmentAction.WORKER_RECYCLED,),
            ByteFigure.unknown("the allocator went with its worker"),
            tuple(dict.fromkeys(names)),
            leased,
        )

    async def _figures(self, device_id: str) -> tuple[ByteFigure, ByteFigure]:
        """What is free, and the largest block of it."""
        for _ in range(_ASKED):
            if self._runs.figures(device_id) is not None:
                break
            # A worker that has just started sends its figures in a moment.
            await asyncio.sleep(_ASK_SECONDS)
        figures = self._runs.figures(device_id)
        (memory,) = (await self._monitor.status(device_id)).devices
        return memory.free, _UNKNOWN if figures is None else figures.largest_free

    def _reserved(self, device_id: str) -> int | None:
        figures = self._runs.figures(device_id)
        return None if figures is None else figures.reserved.value


_PHASES = {
    Depth.RELEASE: (Phase.QUEUED, Phase.RELEASING),
    Depth.RELOAD: (Phase.QUEUED, Phase.RELEASING, Phase.LOADING_MODEL),
    Depth.RECYCLE_WORKER: (Phase.QUEUED, Phase.RELEASING, Phase.STARTING_WORKER),
}
