"""Generations from request to result: check, resolve, queue, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from domains.device.ports import Place
from domains.errors import DomainError, Failure, FeatureNotBuilt, FieldViolation
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.resolution import (
    effective,
    effort_of,
    expected_phases,
    resolve,
    scheduler_of,
)
from domains.inference.core.validation import check_model, check_request, check_scheduler
from domains.inference.errors import InvalidGeneration
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.ports import ArtifactKeeper, Models
from domains.inference.types import GenerationFacts, GenerationRequest, GenerationSettings
from domains.model.types import Model
from domains.session.core.jobs import run_job
from domains.session.core.placed import Placed
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.jobs import ModelRunner, SpooledImage
from domains.session.ports import FaultReporter
from domains.session.types import Outcome, Phase, SessionKind
from domains.values import Degradation, PlacementDecision


@dataclass(frozen=True)
class Verdict:
    """What starting a generation would come to; `settings` are the effective ones."""

    violations: tuple[FieldViolation, ...] = ()
    failure: Failure | None = None
    settings: GenerationSettings | None = None
    phases: tuple[Phase, ...] = ()
    placement: PlacementDecision | None = None
    queue_position: int = 0
    degradations: tuple[Degradation, ...] = ()


@dataclass(frozen=True)
class _Resolved:
    model: Model
    job: GenerationJob
    placed: Placed


class Generations:
    """Accepts generations and runs them when their device's turn comes.

    Args:
        sessions: Where generations wait.
        place: Chooses the device.
        models: Finds the model a request names.
        pool: Runs work on a device's worker.
        artifacts: Takes finished pictures.
        describe: What a client sees of an error.
        random_seed: Gives a fresh seed from 0 to 2^32 - 1.
        software_versions: Versions inside a device's worker.
    """

    def __init__(
        self,
        sessions: Sessions,
        place: Place,
        models: Models,
        pool: ModelRunner,
        artifacts: ArtifactKeeper,
        *,
        describe: FaultReporter,
        random_seed: Callable[[], int],
        software_versions: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._sessions = sessions
        self._place = place
        self._models = models
        self._pool = pool
        self._artifacts = artifacts
        self._describe = describe
        self._random_seed = random_seed
        self._software_versions = software_versions

    def generate(self, request: GenerationRequest) -> SessionRequest:
        """The generation as a session.

        Preparing it raises:
            InvalidGeneration: The content breaks rules.
            FeatureNotBuilt: The request uses what this version does not do.
            DomainError: Device or model cannot be used.
        """
        return SessionRequest(request.options, request.digest, partial(self._prepare, request))

    async def validate(self, request: GenerationRequest) -> Verdict:
        """What `generate` would make of the request, without starting anything."""
        try:
            resolved = await self._resolve(request)
        except InvalidGeneration as error:
            return Verdict(violations=error.violations)
        except DomainError as error:
            return Verdict(failure=self._describe(error))
        placement = resolved.placed.decision
        queue = self._sessions.queue(placement.device_id)
        return Verdict(
            settings=effective(request.settings, resolved.job.settings),
            phases=self._phases(resolved),
            placement=placement,
            queue_position=queue.position_of_next(),
            degradations=drawn_as_words(request.settings),
        )

    async def _resolve(self, request: GenerationRequest) -> _Resolved:
        violations = check_request(request)
        if violations:
            raise InvalidGeneration.of(*violations)
        settings = request.settings
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        model = await self._models.resolve(settings.model_id)
        violations = [
            *check_model(settings, model, "settings"),
            *check_scheduler(settings, scheduler_of(settings, model), model, "settings"),
        ]
        if violations:
            raise InvalidGeneration.of(*violations)
        job = GenerationJob(
            resolve(settings, model, self._random_seed), model.place, request.delivery.previews
        )
        effort = effort_of(job.settings)
        placed = await self._place(request.placement, effort, request.options.priority)
        return _Resolved(model, job, placed)

    async def _prepare(self, request: GenerationRequest) -> SessionPlan:
        resolved = await self._resolve(request)
        job = resolved.job
        return SessionPlan(
            kind=SessionKind.GENERATION,
            device_id=resolved.placed.decision.device_id,
            placed=resolved.placed,
            model_id=resolved.model.model_id,
            expected_phases=self._phases(resolved),
            seeds=job.settings.seeds,
            steps=job.settings.steps,
            work=partial(self._draw, resolved.model, job),
            degradations=drawn_as_words(job.settings),
            # The worker ends its step; only then is it free for the next session.
            stop=lambda session: self._pool.cancel(session.device_id, session.session_id),
        )

    def _phases(self, resolved: _Resolved) -> tuple[Phase, ...]:
        device_id = resolved.placed.decision.device_id
        return expected_phases(self._pool.loading(device_id, resolved.model.model_id))

    async def _draw(self, model: Model, job: GenerationJob, session: Session) -> Outcome:
        self._models.record_use(job.settings.model_id)
        report = await run_job(self._pool, session, job, keep=partial(self._keep, session))
        sha256 = self._models.sha256_of(model)
        return self._outcome(session, job.settings, report, sha256)

    async def _keep(self, session: Session, spooled: SpooledImage) -> None:
        image = spooled.image
        await self._artifacts.adopt(
            spooled.path, image.artifact_id, session.owner, session_id=session.session_id
        )
        session.finish_image(image)

    def _outcome(
        self,
        session: Session,
        settings: GenerationSettings,
        report: GenerationReport,
        sha256: str,
    ) -> Outcome:
        times = report.timings
        return Outcome(
            degradations=(*drawn_as_words(settings), *report.degradations),
            timings={
                Phase.LOADING_MODEL: times.load,
                Phase.ENCODING_TEXT: times.encode_text,
                Phase.DENOISING: times.denoise,
                Phase.DECODING: times.decode,
                Phase.ENCODING_IMAGE: times.encode_image,
            },
            report=GenerationFacts(
                settings=replace(settings, precision=report.precision),
                sha256=sha256,
                data_types=report.data_types,
                channels_last=report.channels_last,
                origin=report.origin,
                software_versions=dict(self._software_versions(session.device_id)),
            ),
        )
