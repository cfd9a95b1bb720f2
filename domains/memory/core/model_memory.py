"""Models in memory: who lies where, and freeing memory by letting models go."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from msgspec.structs import replace

from domains import checks
from domains.device.core import DeviceInventory
from domains.errors import FailedPrecondition, Reason
from domains.limits import LIMITS
from domains.memory.core.models import HeldModels, IdleModel
from domains.memory.core.monitor import MemoryMonitor
from domains.memory.errors import InvalidMemoryRequest
from domains.memory.types import EvictionReport, EvictionRequest, HeldComponent, Place
from domains.session.core.options import check_options
from domains.session.core.session import Session
from domains.session.core.sessions import SessionPlan
from domains.session.core.tasks import Tasks, with_report
from domains.session.types import (
    Phase,
    SessionEvent,
    SessionKind,
    TransferProgress,
)
from domains.values import ByteFigure, FigureQuality

_EXTENT = "free memory as the system tells it, with what the worker's allocator keeps unused"


class ModelsInMemory:
    """Tells which models devices hold, and lets some go.

    Args:
        monitor: Tells how much is free.
        devices: Finds the device that a request names.
        models: What is held, and letting it go.
        tasks: Runs the work as sessions.
        find: Raises MODEL_NOT_FOUND when there is no model of that id at all.
    """

    def __init__(
        self,
        monitor: MemoryMonitor,
        devices: DeviceInventory,
        models: HeldModels,
        tasks: Tasks,
        *,
        find: Callable[[str], Awaitable[object]],
    ) -> None:
        self._monitor = monitor
        self._devices = devices
        self._models = models
        self._tasks = tasks
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

    async def optimize(
        self, request: EvictionRequest
    ) -> AsyncGenerator[SessionEvent | EvictionReport]:
        """Let models go, least recently used first, until so much is free; follow it.

        Yields the session's events, and the report right before the last of them. Nothing
        goes when the target can be reached only with a model in use.

        Raises:
            InvalidMemoryRequest: The content breaks rules.
            DeviceNotFound: There is no such device.
            FailedPrecondition: MODEL_IN_USE.
            DomainError: What the session ended with.
        """
        _check(request)
        events = self._tasks.once(request.options, request.digest, lambda: self._begin(request))
        async with aclosing(with_report(events, EvictionReport)) as items:
            async for item in items:
                yield item

    async def _begin(self, request: EvictionRequest) -> AsyncGenerator[SessionEvent]:
        place = await self._resolved(request.place)
        device_id = self._home(place)
        free = (await self._monitor.extent(place)).free
        self._plan(device_id, free, request.target_free)

        async def work(session: Session) -> EvictionReport:
            return await self._evict(session, place, device_id, request)

        plan = SessionPlan(
            kind=SessionKind.MEMORY_TASK,
            options=request.options,
            digest=request.digest,
            device_id=device_id,
            model_id="",
            expected_phases=(Phase.QUEUED, Phase.RELEASING),
            queue=f"{device_id} plans" if request.dry_run else "",
        )
        return self._tasks.run(plan, work)

    async def _resolved(self, place: Place | None) -> Place:
        assert place is not None
        if place.host:
            return Place()
        return Place((await self._devices.get(place.device_id)).device.device_id)

    def _home(self, place: Place) -> str:
        """The device whose worker holds what is to go; main memory's is the processor."""
        if not place.host:
            return place.device_id
        return next(d.device_id for d in self._devices.devices if d.traits.in_main_memory)

    def _plan(self, device_id: str, free: int | None, target: int) -> list[IdleModel]:
        """The models to let go, in order.

        Raises:
            FailedPrecondition: MODEL_IN_USE.
        """
        held = [one for one in self._models.held() if one.device_id == device_id]
        missing = None if free is None else target - free
        chosen: list[IdleModel] = []
        for model in self._models.idle(device_id):
            if missing is not None and missing <= 0:
                return chosen
            chosen.append(model)
            missing = None if missing is None else missing - model.size_bytes
        idle = {model.model_id for model in chosen}
        used = [one.component for one in held if one.component.model_id not in idle]
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
        if request.dry_run:
            return self._forecast(device_id, plan, before, request.target_free)
        evicted: list[HeldComponent] = []
        free = before
        total = sum(model.size_bytes for model in plan)
        for model in plan:
            # Another allocation may have been given back meanwhile.
            if free is not None and free >= request.target_free:
                break
            evicted += await self._models.evict(
                model,
                remaining=max(session.remaining(), 0.0),
                session_id=session.session_id,
                record=session.record,
            )
            done = sum(one.component.size.value or 0 for one in evicted)
            session.record(TransferProgress(model.model_id, min(done, total), total))
            free = (await self._monitor.extent(place)).free
        return EvictionReport(
            tuple(evicted),
            _measured(before),
            _measured(free),
            free is not None and free >= request.target_free,
        )

    def _forecast(
        self, device_id: str, plan: list[IdleModel], before: int | None, target: int
    ) -> EvictionReport:
        ids = [model.model_id for model in plan]
        held = [one for one in self._models.held() if one.device_id == device_id]
        going = sorted(
            (one for one in held if one.component.model_id in ids),
            key=lambda one: ids.index(one.component.model_id),
        )
        after = _measured(before)
        if after.value is not None:
            value = after.value + sum(model.size_bytes for model in plan)
            after = replace(
                after, value=value, quality=FigureQuality.ESTIMATED, source="free + evicted"
            )
        reached = after.value is not None and after.value >= target
        return EvictionReport(tuple(going), _measured(before), after, reached)


def _check(request: EvictionRequest) -> None:
    limit = LIMITS["OptimizeModelMemoryRequest.target_free_bytes"]
    InvalidMemoryRequest.check(
        checks.required("place", request.place),
        checks.number("target_free_bytes", request.target_free, limit),
        *check_options(request.options, "options"),
    )


def _measured(free: int | None) -> ByteFigure:
    if free is None:
        return ByteFigure.unknown("nobody tells what is free there")
    return ByteFigure.measured(free, _EXTENT)
