"""Generations from request to result: check, resolve, queue, run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from domains.device.ports import Place
from domains.errors import DomainError, Failure, FeatureNotBuilt, FieldViolation
from domains.inference.core.drawing import Drawing, Part
from domains.inference.core.forecast import Forecast, Forecasts
from domains.inference.core.preparing import GenerationPreparer, PreparedGeneration
from domains.inference.core.prompt_length import surely_truncated
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.resolution import effective, effort_of, steps_of_all
from domains.inference.core.statistics import StatisticsKeeper
from domains.inference.core.turns import Turns
from domains.inference.errors import InvalidGeneration
from domains.inference.ports import PicturePreparer
from domains.inference.types import GenerationRequest, GenerationSettings
from domains.inference.types.batches import as_decided
from domains.picture.errors import InvalidPicture
from domains.session.core.items import SessionItem
from domains.session.core.placed import Placed
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.ports import FaultReporter, PausedFiles
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
    prepared: PreparedGeneration
    placed: Placed


class Generations:
    """Accepts generations and runs them when their device's turn comes.

    Args:
        sessions: Where generations wait.
        place: Chooses the device.
        preparer: Checks and resolves them.
        drawing: Has them drawn.
        pictures: Prepares those that generations start from.
        paused: Where unfinished pictures of paused ones lie.
        statistics: Learn from each that ends.
        forecasts: Learn from each that ends, and tell what others will take.
        describe: What a client sees of an error.
    """

    def __init__(
        self,
        sessions: Sessions,
        place: Place,
        preparer: GenerationPreparer,
        drawing: Drawing,
        pictures: PicturePreparer,
        paused: PausedFiles,
        statistics: StatisticsKeeper,
        forecasts: Forecasts,
        *,
        describe: FaultReporter,
    ) -> None:
        self._sessions = sessions
        self._place = place
        self._preparer = preparer
        self._drawing = drawing
        self._pictures = pictures
        self._paused = paused
        self._statistics = statistics
        self._forecasts = forecasts
        self._describe = describe

    def generate(self, request: GenerationRequest) -> SessionRequest:
        """The generation as a session.

        Preparing it raises:
            InvalidGeneration: The content breaks rules.
            InvalidPicture: The picture to start from cannot be used.
            FeatureNotBuilt: The request uses what this version does not do.
            DomainError: Device or model cannot be used.
        """
        return SessionRequest(
            request.options,
            request.digest,
            partial(self._prepare, request),
            again=lambda decided: self._prepare(as_decided(request, decided)),
        )

    async def validate(self, request: GenerationRequest) -> Verdict:
        """What `generate` would make of the request, without starting anything."""
        try:
            resolved = await self._resolve(request)
            forecast = await self._forecast(resolved)
        except (InvalidGeneration, InvalidPicture) as error:
            return Verdict(violations=error.violations)
        except DomainError as error:
            return Verdict(failure=self._describe(error))
        prepared, placement = resolved.prepared, resolved.placed.decision
        queue = self._sessions.queue(placement.device_id)
        return Verdict(
            settings=effective(request.settings, prepared.job.settings),
            phases=tuple(
                phase
                for phase in self._drawing.phases(prepared, placement.device_id)
                if phase is not Phase.LOADING_MODEL or forecast.loads
            ),
            placement=placement,
            queue_position=queue.position_of_next(),
            degradations=(
                *drawn_as_words(request.settings),
                *surely_truncated(request.settings, prepared.companions.trigger_words),
                *forecast.degradations,
            ),
            forecast=forecast,
        )

    def not_built(self, error: FeatureNotBuilt) -> Verdict:
        """What comes of a request with a value that nothing here stands for."""
        return Verdict(failure=self._describe(error))

    async def _forecast(self, resolved: _Resolved) -> Forecast:
        settings = resolved.prepared.job.settings
        return await self._forecasts.of(
            resolved.placed.decision.device_id,
            effort_of(settings),
            settings,
            resolved.prepared.models,
        )

    async def _resolve(self, request: GenerationRequest) -> _Resolved:
        prepared = await self._preparer.prepare(request, self._pictures)
        effort = effort_of(prepared.job.settings)
        placed = await self._place(request.placement, effort, request.options.priority)
        return _Resolved(prepared, placed)

    async def _prepare(self, request: GenerationRequest) -> SessionPlan:
        resolved = await self._resolve(request)
        prepared, turns = resolved.prepared, Turns(self._paused)
        settings, device_id = prepared.job.settings, resolved.placed.decision.device_id
        steps = steps_of_all(settings)

        async def draw(session: Session) -> Outcome:
            return await self._drawing.draw(Part(prepared, turns, SessionItem(session)))

        def ended(session: Session) -> None:
            turns.end()
            self._statistics.note(session)
            self._forecasts.note(settings, session)

        return SessionPlan(
            kind=SessionKind.GENERATION,
            device_id=device_id,
            placed=resolved.placed,
            model_id=prepared.model.model_id,
            companion_ids=prepared.companion_ids,
            policies=prepared.policies,
            expected_phases=self._drawing.phases(prepared, device_id),
            seeds=settings.seeds,
            steps=steps,
            total_steps=steps * len(settings.seeds),
            work=draw,
            degradations=drawn_as_words(settings),
            stop=self._drawing.stop,
            pause=self._drawing.pause,
            ended=ended,
            resumes_after_images=True,
        )
