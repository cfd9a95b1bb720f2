"""Taking a model off devices, after the work that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial

from domains import checks
from domains.device.jobs import ReleaseJob
from domains.device.types import LoadedComponent
from domains.errors import DomainError, FailedPrecondition
from domains.limits import LIMITS
from domains.memory.ports import Leaving
from domains.model.core.cache import ModelCache
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.use import ModelUse
from domains.model.errors import InvalidLoad, ModelInUse
from domains.model.ports import Machine
from domains.model.types import Model, UnloadReport, UnloadRequest
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.errors import SessionTimedOut, TimeLimit
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, PhaseStarted, SessionKind
from domains.values import ByteFigure, EvictionCause

_DEVICES = LIMITS["UnloadModelRequest.device_ids"]
_NOTHING = "nothing was released"
_UNTOLD = "the worker has not measured every component"


class Unloads:
    """Takes models off devices.

    Args:
        catalogue: Finds the model a request names.
        cache: Keeps it in main memory where a request wants that.
        machine: The devices and what lies there.
        use: Knows who uses a model.
        pool: The devices' workers.
        leaving: Hears why a model leaves a device.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        cache: ModelCache,
        machine: Callable[[], Machine],
        use: ModelUse,
        pool: JobRunner,
        *,
        leaving: Leaving,
    ) -> None:
        self._catalogue = catalogue
        self._cache = cache
        self._machine = machine
        self._use = use
        self._pool = pool
        self._leaving = leaving

    def unload(self, request: UnloadRequest) -> SessionRequest:
        """The unload as a session, which reports an `UnloadReport`.

        It waits for the sessions that were accepted before it and use the model there.

        Preparing it raises:
            InvalidLoad: The content breaks rules.
            DomainError: What the catalogue raises for an id; DEVICE_NOT_FOUND.
            FailedPrecondition: STATE_CONFLICT: it is not loaded there.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: UnloadRequest) -> SessionPlan:
        named = request.device_ids[: _DEVICES.max_elements]
        InvalidLoad.check(
            checks.required("model_id", request.model_id),
            checks.elements("device_ids", len(request.device_ids), _DEVICES),
            *(checks.device_id(f"device_ids[{k}]", one) for k, one in enumerate(named)),
            *check_options(request.options, "options"),
        )
        model = await self._catalogue.get(request.model_id)
        model_id = model.model_id
        devices = [(await self._machine().devices.get(one)).device.device_id for one in named]
        chosen = self._chosen(model_id, tuple(dict.fromkeys(devices)))
        turns: list[asyncio.Task[object]] = []

        async def work(session: Session) -> Outcome:
            turn = asyncio.current_task()
            assert turn is not None
            turns.append(turn)
            kept = model if request.keep_cached else None
            return await self._run(session, model_id, chosen, kept)

        reading = (Phase.READING,) if request.keep_cached else ()
        return SessionPlan(
            kind=SessionKind.MODEL_UNLOAD,
            device_id=chosen[0],
            model_id=model_id,
            expected_phases=(Phase.QUEUED, *reading, Phase.DRAINING, Phase.RELEASING),
            work=work,
            # Its own time is over with MODEL_IN_USE where the model still is.
            stop=lambda _: _cancel(turns),
            queue=f"{chosen[0]} unloads",
        )

    def _chosen(self, model_id: str, named: tuple[str, ...]) -> tuple[str, ...]:
        """The devices that the model leaves.

        Raises:
            FailedPrecondition: STATE_CONFLICT.
        """
        machine = self._machine()
        holding = {
            one.device_id for one in machine.models.held() if one.component.model_id == model_id
        }
        # What loads it at this moment, or will have before it is this one's turn.
        holding |= {session.device_id for session in self._use.due(model_id)}
        order = [device.device_id for device in machine.devices.devices]
        chosen = named or tuple(one for one in order if one in holding)
        without = [one for one in chosen if one not in holding]
        if without or not chosen:
            where = f"on {', '.join(without)}" if without else "on any device"
            raise FailedPrecondition(
                f"Model {model_id!r} is not loaded {where}; GetModelStatus says where it is.",
                metadata={"model_id": model_id, "device_ids": ",".join(without)},
            )
        return chosen

    async def _run(
        self, session: Session, model_id: str, device_ids: tuple[str, ...], kept: Model | None
    ) -> Outcome:
        try:
            async with asyncio.timeout(session.run_left()):
                if kept is not None:
                    await self._keep(session, kept)
                released = await asyncio.gather(
                    *(self._leave(session, model_id, one) for one in device_ids),
                    return_exceptions=True,
                )
            for one in released:  # what one device refuses keeps none of the others
                if isinstance(one, BaseException):
                    raise one
        except (TimeoutError, SessionTimedOut) as error:
            users = [one for at in device_ids for one in self._use.running(model_id, at)]
            if users:
                ids = tuple(user.session_id for user in users)
                raise ModelInUse(model_id, ids) from error
            seconds = session.options.run_timeout_seconds
            raise SessionTimedOut(session.session_id, TimeLimit.RUN, seconds) from error
        cached = self._cache.find(model_id) is not None
        gone = [parts for parts in released if not isinstance(parts, BaseException)]
        left = [one for one, parts in zip(device_ids, gone, strict=True) if parts]
        freed = _freed([part for parts in gone for part in parts])
        return Outcome(report=UnloadReport(tuple(left), freed, cached=cached))

    async def _keep(self, session: Session, model: Model) -> None:
        """Have main memory keep the model, unless it has no room or cannot read it: the report
        tells."""
        with suppress(DomainError, OSError):
            lease = await self._cache.lease(model.model_id, model.place, fill=True)
            assert lease is not None
            async with aclosing(lease):
                session.record(PhaseStarted(Phase.READING))
                await lease.follow(session.record)

    async def _leave(
        self, session: Session, model_id: str, device_id: str
    ) -> tuple[LoadedComponent, ...]:
        """Have the model leave one device; what was let go."""
        session.record(PhaseStarted(Phase.DRAINING))
        await self._use.ended(self._use.due(model_id, device_id))
        job = ReleaseJob((model_id,))
        with self._leaving(model_id, device_id, EvictionCause.REQUESTED):
            return (await run_job(self._pool, session, job, device_id=device_id)).released


def _cancel(turns: list[asyncio.Task[object]]) -> None:
    for turn in turns:
        turn.cancel()


def _freed(parts: list[LoadedComponent]) -> ByteFigure:
    sizes = [part.size.value for part in parts]
    if not parts:
        return ByteFigure.measured(0, _NOTHING)
    if any(size is None for size in sizes):
        return ByteFigure.unknown(_UNTOLD)
    return ByteFigure.measured(sum(size or 0 for size in sizes), parts[0].size.source)
