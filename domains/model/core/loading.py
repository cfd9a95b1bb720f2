"""Putting a model on a device before the first picture needs it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from domains import checks
from domains.device.core.placement import check_placement
from domains.device.ports import Place
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.estimates import Estimates
from domains.model.errors import InvalidLoad
from domains.model.jobs import LoadJob
from domains.model.ports import Machine
from domains.model.types import LoadRequest, Model, ModelOnDevice
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import ModelRunner
from domains.session.types import Outcome, Phase, SessionKind
from domains.values import NETWORK_PARTS, ModelOrigin, PartDataType, TensorDataType

_DATA_TYPES = LIMITS["LoadModelRequest.data_types"]
_COMPUTED_IN = (TensorDataType.FLOAT32, TensorDataType.FLOAT16, TensorDataType.BFLOAT16)


class Loads:
    """Loads models in the device's queue.

    Args:
        place: Chooses the device.
        catalogue: Finds the model a request names.
        machine: The devices and what lies there.
        estimates: Says what a dry run finds.
        pool: Does it on the device's worker.
        now: The wall clock, timezone-aware.
    """

    def __init__(
        self,
        place: Place,
        catalogue: ModelCatalogue,
        machine: Callable[[], Machine],
        estimates: Estimates,
        pool: ModelRunner,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._place = place
        self._catalogue = catalogue
        self._machine = machine
        self._estimates = estimates
        self._pool = pool
        self._now = now

    def load(self, request: LoadRequest) -> SessionRequest:
        """The load as a session, which reports a `ModelOnDevice`.

        Preparing it raises:
            InvalidLoad: The content breaks rules.
            DomainError: Device or model cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: LoadRequest) -> SessionPlan:
        InvalidLoad.check(
            *check_placement(request.placement, "placement."),
            *_check_data_types(request.data_types),
            *check_options(request.options, "options"),
        )
        model = await self._catalogue.loadable(request.model_id)
        InvalidLoad.check(*_check_parts(request.data_types, model))
        effort = Effort(model.model_id)
        placed = await self._place(request.placement, effort, request.options.priority)
        device_id = placed.decision.device_id
        if request.dry_run:
            return SessionPlan(
                kind=SessionKind.MODEL_LOAD,
                device_id=device_id,
                placed=placed,
                model_id=model.model_id,
                expected_phases=(Phase.QUEUED,),
                work=partial(self._imagine, model, request.data_types),
                queue=f"{device_id} plans",
            )
        measuring = (Phase.MEASURING,) if request.warm_up else ()
        chosen = tuple(sorted(request.data_types, key=lambda one: one.part.value))
        job = load_job(model, data_types=chosen, warm_up=request.warm_up)
        return SessionPlan(
            kind=SessionKind.MODEL_LOAD,
            device_id=device_id,
            placed=placed,
            model_id=model.model_id,
            expected_phases=(
                Phase.QUEUED,
                *self._pool.loading(device_id, model.model_id),
                *measuring,
            ),
            work=partial(self._run, job),
        )

    async def _imagine(
        self, model: Model, data_types: tuple[PartDataType, ...], session: Session
    ) -> Outcome:
        """What loading it would come to."""
        machine = self._machine()
        device = (await machine.devices.get(session.device_id)).device
        fit = await self._estimates.of(model, device, machine, data_types)
        return Outcome(
            report=ModelOnDevice(
                model.model_id,
                device.device_id,
                (),
                None,
                evicted_model_ids=fit.evicted_model_ids,
                estimate=fit.estimate,
            )
        )

    async def _run(self, job: LoadJob, session: Session) -> Outcome:
        self._catalogue.record_use(job.model_id)
        clock = asyncio.get_running_loop()
        began = clock.time()
        report = await run_job(self._pool, session, job)
        loaded = ModelOnDevice(
            job.model_id,
            session.device_id,
            report.loaded,
            report.origin,
            None if report.origin is ModelOrigin.LOADED else self._now(),
            evicted_model_ids=report.evicted_model_ids,
        )
        took = 0.0 if report.origin is ModelOrigin.LOADED else clock.time() - began
        return Outcome(timings={Phase.LOADING_MODEL: took}, report=loaded)


def load_job(
    model: Model, *, data_types: tuple[PartDataType, ...] = (), warm_up: bool = False
) -> LoadJob:
    """What has a worker load a model of a type that `loads`."""
    assert model.type is not None
    return LoadJob(
        model.model_id,
        model.place,
        data_types=data_types,
        warm_up=warm_up,
        model_type=model.type,
    )


def _check_data_types(chosen: tuple[PartDataType, ...]) -> Iterator[FieldViolation]:
    """Every rule that the list itself breaks."""
    path = "data_types"
    violation = checks.elements(path, len(chosen), _DATA_TYPES)
    if violation is not None:
        yield violation
    counts = Counter(each.part for each in chosen)
    for index, each in enumerate(chosen[: _DATA_TYPES.max_elements]):
        if counts[each.part] > 1:
            yield FieldViolation(
                f"{path}[{index}].part", Reason.FIELDS_CONFLICT, "Must name each part once."
            )
        if each.data_type not in _COMPUTED_IN:
            names = ", ".join(data_type.name for data_type in _COMPUTED_IN)
            yield FieldViolation(
                f"{path}[{index}].data_type",
                Reason.FIELDS_CONFLICT,
                f"Must be one that networks compute in: {names}.",
            )


def _check_parts(chosen: tuple[PartDataType, ...], model: Model) -> Iterator[FieldViolation]:
    """Parts that the model does not have."""
    parts = {NETWORK_PARTS.get(component.name) for component in model.components}
    for index, each in enumerate(chosen):
        if each.part not in parts:
            yield FieldViolation(
                f"data_types[{index}].part",
                Reason.FIELDS_CONFLICT,
                f"The model has no {each.part.value}.",
            )
