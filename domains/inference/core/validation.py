"""The rules a generation's content must keep; every broken one is told at once."""

from __future__ import annotations

from collections.abc import Iterator

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.inference.types import (
    GenerationRequest,
    GenerationSettings,
    Scheduler,
    SigmaSpacing,
)
from domains.limits import LIMITS
from domains.session.core.options import check_options

MAX_SEED = int(LIMITS["GenerationSettings.seed"].maximum or 0)
MAX_IMAGES = int(LIMITS["GenerationSettings.image_count"].maximum or 0)


def check_request(request: GenerationRequest) -> list[FieldViolation]:
    """Every rule `request` breaks, by field; an empty list when it breaks none."""
    violations = list(check_options(request.options, "options"))
    violations += check_settings(request.settings, "settings")
    if request.device_id:
        violations += _found(checks.device_id("device_id", request.device_id))
    return violations


def check_settings(settings: GenerationSettings, path: str) -> list[FieldViolation]:
    """Every rule `settings` breaks; `path` is where they stand in the request."""
    return [
        *_texts(settings, path),
        *_numbers(settings, path),
        *_seeds(settings, path),
    ]


def check_scheduler(
    settings: GenerationSettings, scheduler: Scheduler, path: str
) -> list[FieldViolation]:
    """Rules that depend on which scheduler the request comes to use."""
    violations = []
    spacings = scheduler.facts.spacings
    if settings.spacing not in spacings:
        has = ", ".join(spacing.name for spacing in SigmaSpacing if spacing in spacings)
        violations.append(
            FieldViolation(
                f"{path}.scheduler.spacing",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} does not have {settings.spacing.name}; it has {has}.",
            )
        )
    if settings.eta and not scheduler.facts.takes_eta:
        others = ", ".join(other.name for other in Scheduler if other.facts.takes_eta)
        violations.append(
            FieldViolation(
                f"{path}.scheduler.eta",
                Reason.FIELDS_CONFLICT,
                f"{scheduler.name} takes 0 only; {others} takes up to 1.",
            )
        )
    return violations


def _found(violation: FieldViolation | None) -> list[FieldViolation]:
    return [] if violation is None else [violation]


def _texts(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    for field in ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2"):
        text = getattr(settings, field)
        if text is not None:
            limit = LIMITS[f"GenerationSettings.{field}"]
            yield from _found(checks.prose(f"{path}.{field}", text, limit))


def _numbers(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    sizes = ("width", "height")
    for field in (
        *sizes,
        "steps",
        "guidance_scale",
        "guidance_rescale",
        "clip_skip",
        "image_count",
    ):
        value = getattr(settings, field)
        if value is not None:
            reason = Reason.DIMENSIONS_INVALID if field in sizes else Reason.FIELD_OUT_OF_RANGE
            limit = LIMITS[f"GenerationSettings.{field}"]
            yield from _found(checks.number(f"{path}.{field}", value, limit, reason=reason))
    nested = (
        ("scheduler.eta", "SchedulerSettings.eta", settings.eta),
        ("output.quality", "OutputSettings.quality", settings.quality),
        ("preview.every_steps", "PreviewSettings.every_steps", settings.preview_every_steps),
        (
            "preview.max_edge_pixels",
            "PreviewSettings.max_edge_pixels",
            settings.preview_max_edge,
        ),
    )
    for field, name, value in nested:
        if value is not None:
            yield from _found(checks.number(f"{path}.{field}", value, LIMITS[name]))


def _seeds(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    limit = LIMITS["GenerationSettings.seed"]
    given = [(f"{path}.seed", settings.seed)] if settings.seed is not None else []
    given += [(f"{path}.seeds[{k}]", seed) for k, seed in enumerate(settings.seeds)]
    for field, seed in given:
        if seed is not None:
            yield from _found(checks.number(field, seed, limit, reason=Reason.SEED_INVALID))
    if settings.seed is not None and settings.seeds:
        yield FieldViolation(
            f"{path}.seeds", Reason.FIELDS_CONFLICT, "Set seed or seeds, not both."
        )
    yield from _found(
        checks.elements(
            f"{path}.seeds", len(settings.seeds), LIMITS["GenerationSettings.seeds"]
        )
    )
    count = settings.image_count
    if settings.seeds and count is not None and count != len(settings.seeds):
        yield FieldViolation(
            f"{path}.seeds",
            Reason.SEED_INVALID,
            f"Must have one seed for each of image_count pictures: {count}.",
        )
