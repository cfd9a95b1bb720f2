"""Checking a model: by the catalogue's look at it, and by an inspector that reads its files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from domains import checks
from domains.errors import FeatureNotBuilt
from domains.model.core.catalogue import ModelCatalogue
from domains.model.errors import InvalidTask, ModelUnusable
from domains.model.jobs import MAX_FINDINGS, Finding, InspectJob
from domains.model.types import Model
from domains.model.views import ValidationDepth, ValidationRequest
from domains.session.core.jobs import run_job
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.jobs import JobRunner
from domains.session.types import Outcome, Phase, SessionKind

QUEUE = "model checks"


@dataclass(frozen=True)
class ValidationReport:
    """What a check found; `sha256` is over the weight files, empty unless they were read."""

    valid: bool
    findings: tuple[Finding, ...]
    findings_omitted: int
    sha256: str = ""


class Checks:
    """Checks models one after another, beside what devices do.

    Args:
        catalogue: Finds the model a request names.
        inspectors: Read its files.
    """

    def __init__(self, catalogue: ModelCatalogue, inspectors: JobRunner) -> None:
        self._catalogue = catalogue
        self._inspectors = inspectors

    def check(self, request: ValidationRequest) -> SessionRequest:
        """The check as a session, which reports a `ValidationReport`.

        Preparing it raises:
            InvalidTask: The request breaks rules.
            FeatureNotBuilt: It uses what this version does not do.
            ModelNotFound: There is no such model.
        """
        prepare = partial(self._prepare, request)
        return SessionRequest(request.options, request.digest, prepare)

    async def _prepare(self, request: ValidationRequest) -> SessionPlan:
        InvalidTask.check(
            checks.required("model_id", request.model_id),
            *check_options(request.options, "options"),
        )
        if request.device_id or request.depth is ValidationDepth.DEEP:
            raise FeatureNotBuilt(("device_id", "depth"))
        model = await self._catalogue.get(request.model_id)
        phases = (Phase.QUEUED, Phase.READING, Phase.VERIFYING)
        shallow = request.depth is ValidationDepth.HEADER
        return SessionPlan(
            kind=SessionKind.MODEL_TASK,
            device_id="",
            model_id=model.model_id,
            expected_phases=phases[:2] if shallow else phases,
            work=partial(self._run, request),
            queue=QUEUE,
        )

    async def _run(self, request: ValidationRequest, session: Session) -> Outcome:
        await self._catalogue.refresh()
        model = await self._catalogue.get(request.model_id)
        job = InspectJob(model.model_id, model.place, request.depth)
        report = await run_job(self._inspectors, session, job)
        found = _merged(_of_catalogue(model), report.findings)
        omitted = report.findings_omitted + max(len(found) - MAX_FINDINGS, 0)
        shown = found[:MAX_FINDINGS]
        return Outcome(report=ValidationReport(not found, shown, omitted, report.sha256))


def _of_catalogue(model: Model) -> tuple[Finding, ...]:
    if model.problem is None:
        return ()
    return (Finding.of(ModelUnusable(model.model_id, model.problem)),)


def _merged(first: tuple[Finding, ...], more: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Without what both say of one file: the inspector names it."""
    said = {(finding.reason, finding.description) for finding in more}
    return (*(f for f in first if (f.reason, f.description) not in said), *more)
