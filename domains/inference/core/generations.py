"""Generations from request to result: check, resolve, queue, run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from domains.device.types import Device
from domains.errors import Cancelled, DomainError, Failure, FieldViolation
from domains.inference.core.resolution import (
    effective,
    expected_phases,
    resolve,
    scheduler_of,
)
from domains.inference.core.validation import check_request, check_scheduler
from domains.inference.errors import FeatureNotBuilt, InvalidGeneration
from domains.inference.jobs import GenerationJob, GenerationReport
from domains.inference.ports import ArtifactKeeper, Devices, Models
from domains.inference.types import GenerationRequest, GenerationSettings
from domains.model.types import Model
from domains.session.core.session import Session
from domains.session.core.sessions import SessionPlan, Sessions
from domains.session.jobs import JobEvent, JobRunner, SpooledImage
from domains.session.ports import FaultReporter
from domains.session.types import (
    GenerationFacts,
    Phase,
    Preview,
    SessionEvent,
    SessionKind,
)


@dataclass(frozen=True)
class Verdict:
    """What starting a generation would come to; `settings` are the effective ones."""

    violations: tuple[FieldViolation, ...] = ()
    failure: Failure | None = None
    settings: GenerationSettings | None = None
    phases: tuple[Phase, ...] = ()
    device_id: str = ""
    queue_position: int = 0


@dataclass(frozen=True)
class _Resolved:
    device: Device
    model: Model
    job: GenerationJob


class Generations:
    """Accepts generations and runs them when their device's turn comes.

    Args:
        sessions: Where sessions are opened and wait.
        devices: Finds the device a request names.
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
        devices: Devices,
        models: Models,
        pool: JobRunner,
        artifacts: ArtifactKeeper,
        *,
        describe: FaultReporter,
        random_seed: Callable[[], int],
        software_versions: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._sessions = sessions
        self._devices = devices
        self._models = models
        self._pool = pool
        self._artifacts = artifacts
        self._describe = describe
        self._random_seed = random_seed
        self._software_versions = software_versions

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[SessionEvent]:
        """Start the generation, or find the one its request_id started, and follow it.

        Yields the session's events from the first to the last; then raises what a failed
        or cancelled session ended with.

        Raises:
            InvalidGeneration: The content breaks rules.
            FeatureNotBuilt: The request uses what this version does not do.
            RequestIdReused: The request_id belongs to another request.
            DomainError: Device or model cannot be used, the queue is full, the session
                failed or was cancelled.
        """
        session, existing = await self._find_or_start(request)
        events = self._sessions.follow(
            session,
            existing=existing,
            image_data=request.image_data,
            previews=request.settings.preview.every_steps > 0,
        )
        async with aclosing(events):
            async for event in events:
                yield event
        session.raise_for_end()

    async def validate(self, request: GenerationRequest) -> Verdict:
        """What `generate` would make of the request, without starting anything."""
        try:
            resolved = await self._resolve(request)
        except InvalidGeneration as error:
            return Verdict(violations=error.violations)
        except DomainError as error:
            return Verdict(failure=self._describe(error))
        device_id = resolved.device.device_id
        return Verdict(
            settings=effective(request.settings, resolved.job.settings),
            phases=expected_phases(),
            device_id=device_id,
            queue_position=self._sessions.queue(device_id).position_of_next(),
        )

    async def _resolve(self, request: GenerationRequest) -> _Resolved:
        violations = check_request(request)
        if violations:
            raise InvalidGeneration.of(*violations)
        settings = request.settings
        if request.unbuilt:
            raise FeatureNotBuilt(request.unbuilt)
        device = await self._devices.resolve(request.device_id)
        model = await self._models.resolve(settings.model_id)
        violations = check_scheduler(settings, scheduler_of(settings, model), "settings")
        if violations:
            raise InvalidGeneration.of(*violations)
        job = GenerationJob(resolve(settings, model, self._random_seed), model.path)
        return _Resolved(device, model, job)

    async def _find_or_start(self, request: GenerationRequest) -> tuple[Session, bool]:
        """The session, and whether an earlier call had opened it."""
        known = self._sessions.known(request.options.request_id, request.digest)
        if known is not None:
            return known, True
        resolved = await self._resolve(request)
        # The same request may have come twice at once: the first to get here opened it.
        known = self._sessions.known(request.options.request_id, request.digest)
        if known is not None:
            return known, True
        job = resolved.job
        plan = SessionPlan(
            kind=SessionKind.GENERATION,
            options=request.options,
            digest=request.digest,
            device_id=resolved.device.device_id,
            model_id=resolved.model.model_id,
            expected_phases=expected_phases(),
            seeds=job.settings.seeds,
            steps=job.settings.steps,
        )

        async def run(session: Session) -> None:
            await self._run(session, job)

        return self._sessions.open(plan, run), False

    async def _run(self, session: Session, job: GenerationJob) -> None:
        """The session's turn on its device. Ends the session, whatever happens."""
        self._models.record_use(job.settings.model_id)
        session.start(lambda: self._pool.cancel(session.device_id, session.session_id))
        try:
            events = self._pool.run(
                session.device_id,
                session.session_id,
                job,
                remaining=max(session.remaining(), 0.0),
            )
            async with aclosing(events):
                async for event in events:
                    await self._apply(session, job.settings, event)
        except Cancelled:
            session.cancel()
        except Exception as error:
            session.fail(self._describe(error))

    async def _apply(
        self, session: Session, settings: GenerationSettings, event: JobEvent | GenerationReport
    ) -> None:
        match event:
            case SpooledImage(image, path):
                await self._artifacts.adopt(path, image.artifact_id, session.session_id)
                session.finish_image(image)
            case GenerationReport():
                session.complete(
                    degradations=event.degradations,
                    timings={
                        Phase.LOADING_MODEL: event.timings.load,
                        Phase.ENCODING_TEXT: event.timings.encode_text,
                        Phase.DENOISING: event.timings.denoise,
                        Phase.DECODING: event.timings.decode,
                        Phase.ENCODING_IMAGE: event.timings.encode_image,
                    },
                    generation=GenerationFacts(
                        model_id=settings.model_id,
                        unet_data_type=event.unet_data_type,
                        vae_data_type=event.vae_data_type,
                        channels_last=event.channels_last,
                        steps=settings.steps,
                        software_versions=dict(self._software_versions(session.device_id)),
                    ),
                )
            case Preview():
                session.show(event)
            case _:
                session.record(event)
