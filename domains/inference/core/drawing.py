"""Drawing what was prepared, on a device's worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from domains.chain.core.statistics import StepStatistics
from domains.errors import Failure, InvalidArgument
from domains.inference.core.preparing import PreparedGeneration
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.resolution import expected_phases
from domains.inference.core.safeguards import Safeguards, withhold
from domains.inference.core.turns import Turns
from domains.inference.jobs import GenerationReport, PausedGeneration, SharedGenerationJob
from domains.inference.ports import Models
from domains.inference.types import GenerationFacts, GenerationSettings, UsedModel
from domains.provenance.core import Keeping
from domains.provenance.types import Made
from domains.session.core.items import SessionItem
from domains.session.core.jobs import run_job
from domains.session.core.session import Session
from domains.session.jobs import ModelRunner, PartEnded, SpooledImage, WorkPaused
from domains.session.types import Outcome, Phase, ProgressEvent, SessionState, counted_on


@dataclass(frozen=True)
class Part:
    """A generation as work of a session, with what it keeps from one turn to the next."""

    prepared: PreparedGeneration
    turns: Turns
    item: SessionItem


class Drawing:
    """Has generations drawn.

    Args:
        models: Take note of what is used.
        pool: Runs work on a device's worker.
        keeping: Takes finished pictures.
        safeguards: Say what must not be drawn, and hear of what was judged.
        steps: Learn of every step of a chain.
        software_versions: Versions inside a device's worker.
    """

    def __init__(
        self,
        models: Models,
        pool: ModelRunner,
        keeping: Keeping,
        safeguards: Safeguards,
        steps: StepStatistics,
        *,
        software_versions: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._models = models
        self._pool = pool
        self._keeping = keeping
        self._safeguards = safeguards
        self._steps = steps
        self._software_versions = software_versions

    def phases(self, prepared: PreparedGeneration, device_id: str) -> tuple[Phase, ...]:
        """What it goes through on a device, as things are now."""
        job, guard = prepared.job, prepared.safeguard
        before = (Phase.CHECKING_SAFETY,) if guard is not None and guard.looked_at(job) else ()
        loading = self._pool.loading(device_id, *job.places)
        return expected_phases((*before, *loading), job.settings, finished=bool(job.steps))

    def stop(self, session: Session) -> None:
        """Have a session's work end after its step; only then is the worker free."""
        self._pool.cancel(session.device_id, session.session_id)

    def pause(self, session: Session) -> None:
        """Have it pause after its step."""
        self._pool.pause(session.device_id, session.session_id)

    async def draw(self, part: Part) -> Outcome:
        """Draw what of it is not drawn yet.

        Raises:
            WorkPaused: It stopped between two steps and goes on with the same turns.
            DomainError: As `run_job`.
        """
        self._note(part)
        turns, item = part.turns, part.item
        if await self._withheld(part):
            return Outcome(teaches=False)
        turn = turns.next(part.prepared.job, len(item.images))
        followed = self._steps.follow(turn.steps, item.session.device_id)

        def record(event: ProgressEvent) -> None:
            item.record(event)
            followed.hear(event)

        async def keep(spooled: SpooledImage) -> None:
            followed.finish(spooled.image.image_index)
            await self._keep(spooled, part)

        try:
            found = await run_job(self._pool, item.session, turn, record=record, keep=keep)
        except WorkPaused:  # before the worker had the job
            raise WorkPaused(turns.kept_steps) from None
        except BaseException as error:
            followed.fail(error)
            if isinstance(error, InvalidArgument):
                raise error.renamed(_in_request) from None
            raise
        if isinstance(found, PausedGeneration):
            turns.note(found, len(item.images))
            raise WorkPaused(turns.kept_steps)
        return self._outcome(part, found)

    async def draw_together(
        self, parts: Sequence[Part], ended: Callable[[int, Outcome | Failure], None]
    ) -> None:
        """Draw what is not drawn yet of several parts of one session in one go; those that go
        together share passes of the denoiser.

        Args:
            parts: Not empty.
            ended: Hears of each, by its position, what it came to, as soon as it has ended.

        Raises:
            WorkPaused: Not all ended, and what is not finished of the others begins anew.
            DomainError: As `run_job`; those that had not ended have ended with that.
        """
        for part in parts:
            self._note(part)
        session = parts[0].item.session
        left = []
        for position, part in enumerate(parts):
            if await self._withheld(part):
                ended(position, Outcome(teaches=False))
            else:
                left.append(position)
        if not left:
            return
        parts = [parts[position] for position in left]
        for part in parts:
            part.turns.begin(len(part.item.images))
        job = SharedGenerationJob(tuple(part.prepared.job for part in parts))
        job = replace(
            job,
            finished=tuple(
                image.image_index - part.item.first_image + first
                for first, part in zip(job.firsts, parts, strict=True)
                for image in part.item.images
            ),
        )

        followed = [self._steps.follow(each.steps, session.device_id) for each in job.jobs]

        def record(event: ProgressEvent) -> None:
            index = getattr(event, "image_index", None)
            if index is None:
                session.record(event)
            else:
                at = job.at(index)
                own = counted_on(event, -job.firsts[at])
                parts[at].item.record(own)
                followed[at].hear(own)

        async def keep(spooled: SpooledImage) -> None:
            at = job.at(spooled.image.image_index)
            index = spooled.image.image_index - job.firsts[at]
            followed[at].finish(index)
            image = replace(spooled.image, image_index=index)
            await self._keep(SpooledImage(image, spooled.path), parts[at])

        def end_part(event: PartEnded) -> None:
            found: GenerationReport | Failure = event.outcome
            position = left[event.part]
            if isinstance(found, Failure):
                followed[event.part].fail(found)
                ended(position, found.renamed(_in_request))
            else:
                ended(position, self._outcome(parts[event.part], found))

        try:
            found = await run_job(
                self._pool, session, job, record=record, keep=keep, end_part=end_part
            )
        except WorkPaused:
            raise
        except BaseException as error:
            for each in followed:
                each.fail(error)
            raise
        for paused in found.paused:
            part = parts[paused.part]
            part.turns.note(paused.report, len(part.item.images))
        if found.paused:
            raise WorkPaused

    def _note(self, part: Part) -> None:
        for each in part.prepared.models:
            self._models.record_use(each.model_id)

    async def _keep(self, spooled: SpooledImage, part: Part) -> None:
        item, settings = part.item, part.prepared.job.settings
        session = item.session
        self._safeguards.note(session.session_id, spooled.image)
        made = Made(session.session_id, settings.model_id)
        await self._keeping.keep(spooled, item, settings.output, made)

    async def _withheld(self, part: Part) -> bool:
        """Whether all its pictures are withheld, because of what they were to be drawn from.

        Raises:
            WorkPaused: It was asked to pause meanwhile.
            DomainError: As `run_job`.
        """
        guard, job = part.prepared.safeguard, part.prepared.job
        if guard is None or part.turns.judged:
            return False
        verdict = await self._safeguards.refusal(guard, job, self._pool, part.item)
        part.turns.judged = verdict is None
        if verdict is not None:
            withhold(verdict, job, part.item)
            return True
        session = part.item.session
        if session.state is SessionState.PAUSING or session.yielding is not None:
            raise WorkPaused(part.turns.kept_steps)  # the look at its pictures could not
        return False

    def _outcome(self, part: Part, found: GenerationReport) -> Outcome:
        """What a part came to whose last turn ended so."""
        models = tuple(
            UsedModel(each.model_id, each.type, self._models.sha256_of(each))
            for each in part.prepared.models
            if each.type is not None
        )
        versions = self._software_versions(part.item.session.device_id)
        settings = part.prepared.job.settings
        steps = bool(part.prepared.job.steps)
        return _outcome(
            settings,
            part.turns.whole(found),
            models,
            versions,
            finished=steps,
            teaches=part.turns.timed_all,
        )


def _in_request(field: str) -> str:
    """The field of a request that workers, which know its settings alone, call `field`."""
    return f"settings.{field}"


def _outcome(
    settings: GenerationSettings,
    report: GenerationReport,
    models: tuple[UsedModel, ...],
    software_versions: Mapping[str, str],
    *,
    finished: bool,
    teaches: bool,
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
            **({Phase.POSTPROCESSING: times.postprocess} if finished else {}),
            Phase.ENCODING_IMAGE: times.encode_image,
        },
        report=GenerationFacts(
            settings=replace(settings, precision=report.precision),
            models=models,
            data_types=report.data_types,
            computed=report.computed,
            origin=report.origin,
            software_versions=dict(software_versions),
        ),
        teaches=teaches,
    )
