"""Models in memory: which lie where, and freeing memory by evicting some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from domains import checks
from domains.device.core import DeviceInventory
from domains.errors import FailedPrecondition, Reason
from domains.limits import LIMITS
from domains.memory.core.models import HeldModels, IdleModel
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.types import HeldComponent, Place
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import (
    Outcome,
    Phase,
    SessionKind,
    TransferProgress,
    WorkOptions,
)
from domains.values import ByteFigure, FigureQuality

_EXTENT = "free memory as the system reports it, with what the worker's allocator keeps unused"
_UNKNOWN = "what is free there is unknown"


@dataclass(frozen=True)
class EvictionRequest:
    """Free `target_free` bytes at `place`; a dry run only says what would go.

    `place` None is a request that names none; `digest` stands for the whole request.
    """

    place: Place | None
    target_free: int
    dry_run: bool = False
    options: WorkOptions = field(default_factory=WorkOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class EvictionReport:
    """What went, in order; of a dry run what would go and be free then."""

    evicted: tuple[HeldComponent, ...]
    free_before: ByteFigure
    free_after: ByteFigure
    target_reached: bool


class ModelsInMemory:
    """Knows which models devices hold, and evicts some.

    Args:
        monitor: Reads how much is free.
        devices: Finds the device that a request names.
        models: Knows what is held, and evicts it.
        find: Raises MODEL_NOT_FOUND when there is no model of that id at all.
    """

    def __init__(
        self,
        monitor: MemoryMonitor,
        devices: DeviceInventory,
        models: HeldModels,
        *,
        find: Callable[[str], Awaitable[object]],
    ) -> None:
        self._monitor = monitor
        self._devices = devices
        self._models = models
        self._find = find

    async def held(self, model_id: str = "", device: str = "") -> tuple[HeldComponent, ...]:
        """What lies in memory, of one model and on one device where they are named.

        Raises:
            NotFound: MODEL_NOT_FOUND.
            DeviceNotFound: There is no such device.
        """
        device_id = (await self._devices.get(device)).device.device_id if device else ""
        found = self._models.held()
        if model_id and not any(one.component.model_id == model_id for one in found):
            await self._find(model_id)
            return ()
        return tuple(
            one
            for one in found
            if model_id in ("", one.component.model_id) and device_id in ("", one.device_id)
        )

    def evict(self, request: EvictionRequest) -> SessionRequest:
        """Evicting models, least recently used first, until so much is free: a session.

        It reports an `EvictionReport`. Nothing is evicted when the target can be reached
        only with a model in use.

        Preparing it raises:
            InvalidMemoryRequest: The content breaks rules.
            DeviceNotFound: There is no such device.
            FailedPrecondition: MODEL_IN_USE.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: EvictionRequest) -> SessionPlan:
        _check(request)
        place = await self._resolved(request.place)
        device_id = self._home(place)
        free = (await self._monitor.extent(place)).free
        self._plan(device_id, free, request.target_free)

        async def work(session: Session) -> Outcome:
            return Outcome(report=await self._evict(session, place, device_id, request))

        return SessionPlan(
            kind=SessionKind.MEMORY_TASK,
            device_id=device_id,
            expected_phases=(Phase.QUEUED, Phase.RELEASING),
            work=work,
            queue=f"{device_id} plans" if request.dry_run else "",
        )

    async def _resolved(self, place: Place | None) -> Place:
        assert place is not None
        if place.host:
            return Place()
        return Place((await self._devices.get(place.device_id)).device.device_id)

    def _home(self, place: Place) -> str:
        """The device whose worker holds the models; main memory's is the processor."""
        if not place.host:
            return place.device_id
        return next(d.device_id for d in self._devices.devices if d.traits.in_main_memory)

    def _plan(self, device_id: str, free: int | None, target: int) -> list[IdleModel]:
        """The models to evict, in order.

        Raises:
            FailedPrecondition: MODEL_IN_USE.
        """
        missing = None if free is None else target - free
        chosen: list[IdleModel] = []
        for model in self._models.idle(device_id):
            if missing is not None and missing <= 0:
                return chosen
            chosen.append(model)
            missing = None if missing is None else missing - model.size_bytes
        idle = {(model.device_id, model.model_id) for model in chosen}
        places = self._models.sharing(device_id)
        used = [
            one.component
            for one in self._models.held()
            if one.device_id in places and (one.device_id, one.component.model_id) not in idle
        ]
        in_use = sum(part.size.value or 0 for part in used)
        if missing is not None and 0 < missing <= in_use:
            ids = sorted({part.model_id for part in used})
            raise FailedPrecondition(
                f"That much can be freed only with {', '.join(ids)}, which work is using; "
                "wait for it or cancel it.",
                reason=Reason.MODEL_IN_USE,
                metadata={"model_ids": ",".join(ids), "missing_bytes": str(missing)},
                retry_after=5.0,
            )
        return chosen

    async def _evict(
        self, session: Session, place: Place, device_id: str, request: EvictionRequest
    ) -> EvictionReport:
        before = (await self._monitor.extent(place)).free
        plan = self._plan(device_id, before, request.target_free)
        total = sum(model.size_bytes for model in plan)
        evicted: list[HeldComponent] = []
        if request.dry_run:
            for model in plan:
                evicted += (
                    one
                    for one in self._models.held()
                    if (one.device_id, one.component.model_id)
                    == (model.device_id, model.model_id)
                )
            free = None if before is None else before + total
            return _report(evicted, before, free, request.target_free, estimated=True)
        free = before
        for model in plan:
            # Another allocation may have been freed meanwhile.
            if free is not None and free >= request.target_free:
                break
            evicted += await self._models.evict_in(session, model)
            done = sum(one.component.size.value or 0 for one in evicted)
            session.record(TransferProgress(model.model_id, min(done, total), total))
            free = (await self._monitor.extent(place)).free
        return _report(evicted, before, free, request.target_free)


def _check(request: EvictionRequest) -> None:
    limit = LIMITS["EvictModelsRequest.target_free_bytes"]
    InvalidMemoryRequest.check(
        checks.required("place", request.place),
        checks.number("target_free_bytes", request.target_free, limit),
        *check_options(request.options, "options"),
    )


def _report(
    evicted: list[HeldComponent],
    before: int | None,
    after: int | None,
    target: int,
    *,
    estimated: bool = False,
) -> EvictionReport:
    figure = _figure(after)
    if estimated and after is not None:
        figure = ByteFigure(after, FigureQuality.ESTIMATED, "free + evicted")
    reached = after is not None and after >= target
    return EvictionReport(tuple(evicted), _figure(before), figure, reached)


def _figure(free: int | None) -> ByteFigure:
    return ByteFigure.unknown(_UNKNOWN) if free is None else ByteFigure.measured(free, _EXTENT)
