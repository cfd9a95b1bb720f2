"""From what a client asked for to work with nothing left open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from domains.inference.core.validation import MAX_SEED
from domains.inference.types import (
    GenerationSettings,
    GenerationWork,
    OutputSettings,
    PreviewSettings,
    Scheduler,
    SchedulerSettings,
)
from domains.limits import LIMITS
from domains.model.types import Model
from domains.session.types import Phase

FALLBACK_SCHEDULER = Scheduler.DPM_SOLVER_MULTISTEP


def scheduler_of(settings: GenerationSettings, model: Model) -> Scheduler:
    """The scheduler asked for, or the model's own, or DPM-Solver++ 2M."""
    if settings.scheduler is not None:
        return settings.scheduler
    named = {scheduler.value: scheduler for scheduler in Scheduler}
    return named.get(model.default_scheduler, FALLBACK_SCHEDULER)


def seeds_of(settings: GenerationSettings, random_seed: Callable[[], int]) -> tuple[int, ...]:
    """A seed for each picture: those given, or counting up from the first."""
    if settings.seeds:
        return settings.seeds
    first = random_seed() if settings.seed is None else settings.seed
    count = _default(settings.image_count, "GenerationSettings.image_count")
    return tuple((first + k) % (MAX_SEED + 1) for k in range(int(count)))


def resolve(
    settings: GenerationSettings, model: Model, random_seed: Callable[[], int]
) -> GenerationWork:
    """Checked settings with every default filled in.

    Args:
        settings: What the client asked for, without violations.
        model: The model it names.
        random_seed: Gives a fresh seed from 0 to 2^32 - 1.
    """
    return GenerationWork(
        model_id=model.model_id,
        model_path=model.path,
        prompt=settings.prompt,
        negative_prompt=settings.negative_prompt,
        prompt_2=settings.prompt_2,
        negative_prompt_2=settings.negative_prompt_2,
        width=settings.width or model.native_width,
        height=settings.height or model.native_height,
        steps=int(_default(settings.steps, "GenerationSettings.steps")),
        guidance_scale=_default(settings.guidance_scale, "GenerationSettings.guidance_scale"),
        guidance_rescale=_default(
            settings.guidance_rescale, "GenerationSettings.guidance_rescale"
        ),
        clip_skip=int(_default(settings.clip_skip, "GenerationSettings.clip_skip")),
        scheduler=SchedulerSettings(
            scheduler_of(settings, model),
            settings.spacing,
            _default(settings.eta, "SchedulerSettings.eta"),
        ),
        seeds=seeds_of(settings, random_seed),
        precision=settings.precision,
        preview=PreviewSettings(
            settings.preview_every_steps,
            int(_default(settings.preview_max_edge, "PreviewSettings.max_edge_pixels")),
        ),
        output=OutputSettings(
            settings.format,
            int(_default(settings.quality, "OutputSettings.quality")),
            settings.lossless,
            not settings.omit_parameters,
        ),
    )


def effective(settings: GenerationSettings, work: GenerationWork) -> GenerationSettings:
    """The settings as `work` will use them, seeds excepted unless the client chose them."""
    return replace(
        settings,
        model_id=work.model_id,
        width=work.width,
        height=work.height,
        steps=work.steps,
        guidance_scale=work.guidance_scale,
        guidance_rescale=work.guidance_rescale,
        clip_skip=work.clip_skip,
        scheduler=work.scheduler.scheduler,
        eta=work.scheduler.eta,
        image_count=len(work.seeds),
        quality=work.output.quality,
        preview_max_edge=work.preview.max_edge,
    )


def expected_phases() -> tuple[Phase, ...]:
    """What a text-to-image generation goes through."""
    return (
        Phase.QUEUED,
        Phase.LOADING_MODEL,
        Phase.ENCODING_TEXT,
        Phase.DENOISING,
        Phase.DECODING,
        Phase.ENCODING_IMAGE,
    )


def _default(value: float | None, field: str) -> float:
    if value is not None:
        return value
    default = LIMITS[field].default
    if default is None:
        raise LookupError(f"{field} has no default")
    return default
