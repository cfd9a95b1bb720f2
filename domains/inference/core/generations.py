"""Generations from request to result: check, resolve, queue, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from domains.device.ports import Place
from domains.errors import (
    DomainError,
    Failure,
    FeatureNotBuilt,
    FieldViolation,
    InvalidArgument,
)
from domains.inference.core.companions import (
    Companions,
    check_architectures,
    check_layers,
    check_trigger_words,
    find,
    look_up,
)
from domains.inference.core.control_nets import (
    PreparedControls,
    check_unions,
    prepare_controls,
)
from domains.inference.core.forecast import Forecast, Forecasts
from domains.inference.core.inputs import Inputs, prepare
from domains.inference.core.prompt_length import surely_truncated
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.refiner_rules import check_refining_model
from domains.inference.core.resolution import (
    effective,
    effort_of,
    expected_phases,
    resolve,
    scheduler_of,
    steps_of,
)
from domains.inference.core.sampling_rules import check_scheduler
from domains.inference.core.schedule_rules import check_schedules
from domains.inference.core.second_pass import check_result_size, check_steps
from domains.inference.core.statistics import StatisticsKeeper
from domains.inference.core.turns import Turns
from domains.inference.core.validation import (
    check_lora_weights,
    check_model,
    check_request,
)
from domains.inference.errors import InvalidGeneration
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.ports import (
    ArtifactKeeper,
    LoraFits,
    Models,
    PausedFiles,
    PicturePreparer,
)
from domains.inference.types import (
    GenerationFacts,
    GenerationRequest,
    GenerationSettings,
    UsedModel,
)
from domains.model.types import Model
from domains.picture.errors import InvalidPicture
from domains.session.core.jobs import run_job
from domains.session.core.placed import Placed
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.jobs import ModelRunner, SpooledImage, WorkPaused
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
    forecast: Forecast | None = None


@dataclass(frozen=True)
class _Resolved:
    model: Model
    companions: Companions
    job: GenerationJob
    placed: Placed
    inputs: Inputs
    controls: PreparedControls
    """Held for as long as the job may need its file."""


class Generations:
    """Accepts generations and runs them when their device's turn comes.

    Args:
        sessions: Where generations wait.
        place: Chooses the device.
        models: Finds the model a request names.
        pool: Runs work on a device's worker.
        artifacts: Takes finished pictures.
        fits: Holds LoRAs against checkpoints.
        pictures: Prepares those that generations start from.
        paused: Where unfinished pictures of paused ones lie.
        statistics: Learn from each that ends.
        forecasts: Learn from each that ends, and tell what others will take.
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
        fits: LoraFits,
        pictures: PicturePreparer,
        paused: PausedFiles,
        statistics: StatisticsKeeper,
        forecasts: Forecasts,
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
        self._fits = fits
        self._pictures = pictures
        self._paused = paused
        self._statistics = statistics
        self._forecasts = forecasts
        self._describe = describe
        self._random_seed = random_seed
        self._software_versions = software_versions

    def generate(self, request: GenerationRequest) -> SessionRequest:
        """The generation as a session.

        Preparing it raises:
            InvalidGeneration: The content breaks rules.
            InvalidPicture: The picture to start from cannot be used.
            FeatureNotBuilt: The request uses what this version does not do.
            DomainError: Device or model cannot be used.
        """
        return SessionRequest(request.options, request.digest, partial(self._prepare, request))

    async def validate(self, request: GenerationRequest) -> Verdict:
        """What `generate` would make of the request, without starting anything."""
        try:
            resolved = await self._resolve(request)
            forecast = await self._forecast(resolved)
        except (InvalidGeneration, InvalidPicture) as error:
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
            degradations=(
                *drawn_as_words(request.settings),
                *surely_truncated(request.settings, resolved.companions.trigger_words),
                *forecast.degradations,
            ),
            forecast=forecast,
        )

    def not_built(self, error: FeatureNotBuilt) -> Verdict:
        """What comes of a request with a value that nothing here stands for."""
        return Verdict(failure=self._describe(error))

    async def _forecast(self, resolved: _Resolved) -> Forecast:
        device_id, settings = resolved.placed.decision.device_id, resolved.job.settings
        return await self._forecasts.of(
            device_id,
            effort_of(settings),
            settings,
            (resolved.model, *resolved.companions.models),
        )

    async def _resolve(self, request: GenerationRequest) -> _Resolved:
        violations = check_request(request)
        if violations:
            raise InvalidGeneration.of(*violations)
        settings = request.settings
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        model = await look_up(self._models, settings.model_id, "settings.model_id")
        companions = await find(self._models, settings, "settings")
        settings = companions.named_in(settings)
        scheduler = scheduler_of(settings, model)
        violations = [
            # Two names may be of one model.
            *check_lora_weights(settings.loras, "settings.loras"),
            *check_architectures(companions, model, "settings"),
            *check_trigger_words(companions, "settings"),
            *check_model(settings, model, "settings"),
            *check_scheduler(settings, scheduler, model, "settings"),
            *check_refining_model(settings, scheduler, companions.refiner, model, "settings"),
            *check_steps(settings, scheduler, "settings"),
            *check_schedules(settings, scheduler, model, "settings"),
        ]
        if violations:
            raise InvalidGeneration.of(*violations)
        check_unions(companions, "settings")
        await check_layers(companions, model, self._fits, "settings")
        inputs = await prepare(self._pictures, request, model, "settings")
        picture, mask = inputs.picture, inputs.mask
        settings = resolve(inputs.named_in(settings), model, self._random_seed)
        violations = [*check_result_size(settings, "settings")]
        if violations:
            raise InvalidGeneration.of(*violations)
        controls = await prepare_controls(self._pictures, request, settings)
        job = GenerationJob(
            controls.settings,
            model.place,
            request.delivery.previews,
            companions=companions.for_job(),
            picture=None if picture is None else picture.prepared,
            mask=None if mask is None else mask.prepared,
            controls=controls.pictures,
        )
        effort = effort_of(job.settings)
        placed = await self._place(request.placement, effort, request.options.priority)
        return _Resolved(model, companions, job, placed, inputs, controls)

    async def _prepare(self, request: GenerationRequest) -> SessionPlan:
        resolved = await self._resolve(request)
        job, turns = resolved.job, Turns(self._paused)
        return SessionPlan(
            kind=SessionKind.GENERATION,
            device_id=resolved.placed.decision.device_id,
            placed=resolved.placed,
            model_id=resolved.model.model_id,
            companion_ids=resolved.companions.model_ids,
            expected_phases=self._phases(resolved),
            seeds=job.settings.seeds,
            steps=sum(sum(steps_of(each)) for each in job.settings.passes),
            work=partial(self._draw, resolved, job, turns),
            degradations=drawn_as_words(job.settings),
            # The worker ends its step; only then is it free for the next session.
            stop=lambda session: self._pool.cancel(session.device_id, session.session_id),
            pause=lambda session: self._pool.pause(session.device_id, session.session_id),
            ended=partial(self._ended, job.settings, turns),
        )

    def _ended(self, settings: GenerationSettings, turns: Turns, session: Session) -> None:
        turns.end()
        self._statistics.note(session)
        self._forecasts.note(settings, session)

    def _phases(self, resolved: _Resolved) -> tuple[Phase, ...]:
        device_id = resolved.placed.decision.device_id
        loading = self._pool.loading(device_id, *resolved.job.places)
        return expected_phases(loading, resolved.job.settings)

    async def _draw(
        self, resolved: _Resolved, job: GenerationJob, turns: Turns, session: Session
    ) -> Outcome:
        used = (resolved.model, *resolved.companions.models)
        for each in used:
            self._models.record_use(each.model_id)
        turn = turns.next(job, len(session.images))
        try:
            found = await run_job(self._pool, session, turn, keep=partial(self._keep, session))
        except WorkPaused:  # before the worker had the job
            raise WorkPaused(turns.kept_steps) from None
        except InvalidArgument as error:
            raise error.under("settings") from None
        if isinstance(found, PausedGeneration):
            turns.note(found)
            raise WorkPaused(turns.kept_steps)
        report = turns.whole(found)
        models = tuple(
            UsedModel(each.model_id, each.type, self._models.sha256_of(each))
            for each in used
            if each.type is not None
        )
        return self._outcome(session, job.settings, report, models)

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
        models: tuple[UsedModel, ...],
    ) -> Outcome:
        times = report.timings
        prepared = (
            {Phase.PREPARING_INPUT: times.prepare_input}
            if Phase.PREPARING_INPUT in expected_phases((), settings)
            else {}
        )
        return Outcome(
            degradations=(*drawn_as_words(settings), *report.degradations),
            timings={
                Phase.LOADING_MODEL: times.load,
                Phase.ENCODING_TEXT: times.encode_text,
                **prepared,
                Phase.DENOISING: times.denoise,
                **({} if settings.refiner is None else {Phase.REFINING: times.refine}),
                Phase.DECODING: times.decode,
                Phase.ENCODING_IMAGE: times.encode_image,
            },
            report=GenerationFacts(
                settings=replace(settings, precision=report.precision),
                models=models,
                data_types=report.data_types,
                computed=report.computed,
                origin=report.origin,
                software_versions=dict(self._software_versions(session.device_id)),
            ),
        )
