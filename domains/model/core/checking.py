"""Checking a model: by the catalogue's look at it, and by an inspector that reads its files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from domains import checks
from domains.device.ports import Place
from domains.device.types import DeviceChoice, DeviceKind, NamedDevice
from domains.errors import FailedPrecondition, Reason
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.estimates import Estimates
from domains.model.core.loading import load_job
from domains.model.errors import ChecksumMismatch, InvalidTask, ModelUnusable
from domains.model.jobs import MAX_FINDINGS, Finding, InspectJob
from domains.model.ports import Machine
from domains.model.types import Model, ModelEstimate, loads
from domains.model.views import ValidationDepth, ValidationRequest
from domains.session.core.about import Parent
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.speeds import Effort
from domains.session.jobs import JobRunner, ModelRunner
from domains.session.types import Outcome, Phase, ProgressEvent, SessionKind, WorkOptions

QUEUE = "model checks"
_PHASES = (Phase.QUEUED, Phase.READING, Phase.VERIFYING)


@dataclass(frozen=True)
class ValidationReport:
    """What a check found; `sha256` is over the weight files, empty unless they were read.

    `estimate` is for the device that was named, None where none was.
    """

    valid: bool
    findings: tuple[Finding, ...]
    findings_omitted: int
    sha256: str = ""
    estimate: ModelEstimate | None = None


class Checks:
    """Checks models one after another, beside what devices do unless they are run there.

    Args:
        catalogue: Finds the model a request names.
        inspectors: Read its files.
        place: Chooses the device where it is run.
        machine: The devices and what lies there.
        estimates: Says what it needs there.
        pool: Runs it.
        runner: Gives it its turn there.
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        inspectors: JobRunner,
        place: Place,
        machine: Callable[[], Machine],
        estimates: Estimates,
        pool: ModelRunner,
        runner: SessionRunner,
    ) -> None:
        self._catalogue = catalogue
        self._inspectors = inspectors
        self._place = place
        self._machine = machine
        self._estimates = estimates
        self._pool = pool
        self._runner = runner

    def check(self, request: ValidationRequest) -> SessionRequest:
        """The check as a session, which reports a `ValidationReport`.

        Preparing it raises:
            InvalidTask: The request breaks rules.
            ModelNotFound: There is no such model.
            DomainError: The device cannot be used.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(
            request.options, request.digest, prepare, again=begun_anew(prepare)
        )

    async def _prepare(self, request: ValidationRequest) -> SessionPlan:
        InvalidTask.check(
            checks.required("model_id", request.model_id),
            *check_options(request.options, "options"),
        )
        model = await self._catalogue.get(request.model_id)
        if request.device_id:
            await self._machine().devices.get(request.device_id)
        if request.depth is ValidationDepth.DEEP and _runs(model):
            return await self._on_device(request, model)
        shallow = request.depth is ValidationDepth.HEADER
        return SessionPlan(
            kind=SessionKind.MODEL_TASK,
            device_id="",
            model_id=model.model_id,
            expected_phases=_PHASES[:2] if shallow else _PHASES,
            work=partial(self._run, request),
            queue=QUEUE,
        )

    async def _on_device(self, request: ValidationRequest, model: Model) -> SessionPlan:
        """Where it is run as well, that waits for the device, once all else was in order."""
        named = request.device_id
        where = NamedDevice(named) if named else DeviceChoice(kinds=(DeviceKind.CPU,))
        placed = await self._place(where, Effort(model.model_id), request.options.priority)
        return SessionPlan(
            kind=SessionKind.MODEL_TASK,
            device_id=placed.decision.device_id,
            placed=placed,
            model_id=model.model_id,
            expected_phases=(*_PHASES, Phase.LOADING_MODEL, Phase.MEASURING),
            work=partial(self._run, request),
            queue=f"{placed.decision.device_id} checks",
        )

    async def _run(self, request: ValidationRequest, session: Session) -> Outcome:
        model = await self._catalogue.again(request.model_id)
        job = InspectJob(model.model_id, model.place, request.depth)
        report = await run_job(self._inspectors, session, job)
        found = _merged(_of_catalogue(model), report.findings)
        found += changed_since(model.sha256, report.sha256)
        if session.device_id and not found:
            found = await self._tried(model, session)
        omitted = report.findings_omitted + max(len(found) - MAX_FINDINGS, 0)
        shown = found[:MAX_FINDINGS]
        estimate = await self._estimate(model, request.device_id)
        done = ValidationReport(not found, shown, omitted, report.sha256, estimate)
        return Outcome(report=done)

    async def _tried(self, model: Model, session: Session) -> tuple[Finding, ...]:
        """What is found when it is tried, by a session of the check's own in the device's
        queue: until its turn comes the device is others'."""
        found: list[Finding] = []

        async def work(turn: Session) -> Outcome:
            found.extend(await self._try(model, turn))
            if turn.peak_memory is not None:
                session.note_peak(turn.peak_memory)
            return Outcome()

        async def prepare() -> SessionPlan:
            loading = self._pool.loading(session.device_id, model.model_id)
            return SessionPlan(
                kind=SessionKind.MODEL_TASK,
                device_id=session.device_id,
                model_id=model.model_id,
                expected_phases=(Phase.QUEUED, *loading, Phase.MEASURING),
                work=work,
            )

        options = WorkOptions(
            priority=session.options.priority, run_timeout_seconds=session.run_left()
        )
        parent = Parent(session.session_id)
        request = SessionRequest(options, b"", prepare, session.owner, parent)
        async with aclosing(self._runner.run(request)) as events:
            async for event in events:
                if isinstance(event.event, ProgressEvent):
                    session.record(event.event)
        return tuple(found)

    async def _try(self, model: Model, session: Session) -> tuple[Finding, ...]:
        """Load it and draw a throw-away step, or run it once where it does not draw alone; what
        is wrong with the model is a finding."""
        try:
            await run_job(self._pool, session, load_job(model, warm_up=True))
        except FailedPrecondition as error:
            of_the_model = error.reason.value.startswith("MODEL_")
            if not of_the_model and error.reason is not Reason.NON_FINITE_OUTPUT:
                raise
            return (Finding.of(error),)
        return ()

    async def _estimate(self, model: Model, device_id: str) -> ModelEstimate | None:
        if not device_id:
            return None
        machine = self._machine()
        device = (await machine.devices.get(device_id)).device
        return (await self._estimates.of(model, device, machine)).estimate


def _runs(model: Model) -> bool:
    """Whether a device can run it."""
    return model.usable and loads(model.type) and not model.borrows


def changed_since(known: str, read: str) -> tuple[Finding, ...]:
    """What it says that files have another hash than before, though size and time are the same.

    Args:
        known: Of the files as they were, empty while it is not known.
        read: Of the files as they are, empty where they were not read.
    """
    if not (known and read) or known == read:
        return ()
    return (Finding.of(ChecksumMismatch()),)


def _of_catalogue(model: Model) -> tuple[Finding, ...]:
    if model.problem is None:
        return ()
    return (Finding.of(ModelUnusable(model.model_id, model.problem)),)


def _merged(first: tuple[Finding, ...], more: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Without what both say of one file: the inspector names it."""
    said = {(finding.reason, finding.description) for finding in more}
    return (*(f for f in first if (f.reason, f.description) not in said), *more)
