"""Drawing what was prepared, on a device's worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from domains.inference.core.preparing import PreparedGeneration
from domains.inference.core.prompt_syntax import drawn_as_words
from domains.inference.core.resolution import expected_phases
from domains.inference.core.turns import Turns
from domains.inference.jobs import GenerationReport, PausedGeneration
from domains.inference.ports import ArtifactKeeper, Models
from domains.inference.types import GenerationFacts, GenerationSettings, UsedModel
from domains.session.core.items import SessionItem
from domains.session.core.jobs import run_job
from domains.session.jobs import ModelRunner, SpooledImage, WorkPaused
from domains.session.types import Outcome, Phase


class Drawing:
    """Has generations drawn.

    Args:
        models: Take note of what is used.
        pool: Runs work on a device's worker.
        artifacts: Takes finished pictures.
        software_versions: Versions inside a device's worker.
    """

    def __init__(
        self,
        models: Models,
        pool: ModelRunner,
        artifacts: ArtifactKeeper,
        *,
        software_versions: Callable[[str], Mapping[str, str]],
    ) -> None:
        self._models = models
        self._pool = pool
        self._artifacts = artifacts
        self._software_versions = software_versions

    def phases(self, prepared: PreparedGeneration, device_id: str) -> tuple[Phase, ...]:
        """What it goes through on a device, as things are now."""
        loading = self._pool.loading(device_id, *prepared.job.places)
        return expected_phases(loading, prepared.job.settings)

    async def draw(
        self, prepared: PreparedGeneration, turns: Turns, item: SessionItem
    ) -> Outcome:
        """Draw what is not drawn yet, as the work of an item of a session.

        Raises:
            WorkPaused: It stopped between two steps and goes on with these turns.
            DomainError: As `run_job`.
        """
        for each in prepared.models:
            self._models.record_use(each.model_id)

        async def keep(spooled: SpooledImage) -> None:
            image, session = spooled.image, item.session
            await self._artifacts.adopt(
                spooled.path, image.artifact_id, session.owner, session_id=session.session_id
            )
            item.finish_image(image)

        turn = turns.next(prepared.job, len(item.images))
        try:
            found = await run_job(self._pool, item.session, turn, record=item.record, keep=keep)
        except WorkPaused:  # before the worker had the job
            raise WorkPaused(turns.kept_steps) from None
        if isinstance(found, PausedGeneration):
            turns.note(found)
            raise WorkPaused(turns.kept_steps)
        models = tuple(
            UsedModel(each.model_id, each.type, self._models.sha256_of(each))
            for each in prepared.models
            if each.type is not None
        )
        versions = self._software_versions(item.session.device_id)
        return _outcome(prepared.job.settings, turns.whole(found), models, versions)


def _outcome(
    settings: GenerationSettings,
    report: GenerationReport,
    models: tuple[UsedModel, ...],
    software_versions: Mapping[str, str],
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
            software_versions=dict(software_versions),
        ),
    )
