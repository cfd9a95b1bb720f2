"""What a second pass needs of the settings it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from domains.chain.core.preparing import best_upscaler
from domains.chain.errors import PostprocessorMissing
from domains.errors import FieldViolation, Reason
from domains.inference.core.later_parts import own_steps
from domains.inference.core.plain_rules import plain
from domains.inference.core.sampling_rules import check_guidance
from domains.inference.ports import Models
from domains.inference.types import (
    GenerationSettings,
    SecondPassUpscale,
    steps_by_strength,
)
from domains.limits import LIMITS
from domains.model.types import Model, ModelType

NO_UPSCALER = (
    "No upscaler is installed: put one into a model root (a .safetensors of the kinds Compact "
    "or RRDB, such as Real-ESRGAN's), or enlarge with PIXELS or LATENT."
)


def check_second_pass(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """Rules that hold whichever model and scheduler the request comes to use."""
    again = settings.second_pass
    if again is None:
        return
    broken = [
        *plain(again, "SecondPass", path),
        *check_guidance(again.guidance, f"{path}.guidance"),
    ]
    yield from broken
    steps = own_steps(again, settings)
    if not broken:
        yield from leaves_a_step(again.strength, steps, path)
    if settings.scheduler.sigmas and steps != settings.steps:
        yield FieldViolation(
            f"{path}.steps",
            Reason.FIELDS_CONFLICT,
            "Noise levels in scheduler.sigmas are for the steps of both passes: leave one out.",
        )
    if again.postprocessor_id and again.upscale is not SecondPassUpscale.MODEL:
        yield FieldViolation(
            f"{path}.postprocessor_id",
            Reason.FIELDS_CONFLICT,
            f"An upscaler enlarges with upscale MODEL, and it is {again.upscale.name}; set "
            "that, or leave the upscaler out.",
        )
    masked = settings.inpainting
    if masked is not None and masked.crop_margin_pixels is not None:
        yield FieldViolation(
            path,
            Reason.FIELDS_CONFLICT,
            "Would enlarge a part to shrink it again: with inpainting.crop_margin_pixels it is "
            "drawn enlarged already; leave out second_pass or crop_margin_pixels.",
        )


def leaves_a_step(strength: float, steps: int, path: str) -> Iterator[FieldViolation]:
    """Refuse a strength of which no step of a schedule comes."""
    if steps_by_strength(steps, strength) < 1 <= steps:
        yield FieldViolation(
            f"{path}.strength",
            Reason.FIELD_OUT_OF_RANGE,
            f"Leaves no step of {steps}; must be at least 1 divided by the steps "
            f"({1 / steps:.3g}), or the steps more.",
        )


async def with_upscaler(
    settings: GenerationSettings, models: Models, path: str
) -> GenerationSettings:
    """The settings with an upscaler named where they need one and leave open which.

    Raises:
        PostprocessorMissing: None is installed.
    """
    again = settings.second_pass
    if again is None or again.upscale is not SecondPassUpscale.MODEL or again.postprocessor_id:
        return settings
    best = best_upscaler(await models.of_type(ModelType.UPSCALER), again.scale)
    if best is None:
        raise PostprocessorMissing(f"{path}.second_pass.postprocessor_id", NO_UPSCALER)
    return replace(settings, second_pass=replace(again, postprocessor_id=best.model_id))


def check_result_size(
    settings: GenerationSettings, upscaler: Model | None, path: str
) -> Iterator[FieldViolation]:
    """Refuse pictures that would become too large, and those that an upscaler would have
    nothing to do on; `settings` are resolved."""
    if settings.second_pass is None:
        return
    most = int(LIMITS["GenerationSettings.width"].maximum or 0)
    (width, height), (wide, high) = settings.size, settings.result_size
    if max(wide, high) > most:
        yield FieldViolation(
            f"{path}.second_pass.scale",
            Reason.DIMENSIONS_INVALID,
            f"Makes {wide}x{high} pixels of {width}x{height}; must give at most {most} along "
            f"an edge: at most {int(100 * most / max(width, height)) / 100:g} times here.",
        )
    elif upscaler is not None and (wide, high) == (width, height) and not _redraws(upscaler):
        yield FieldViolation(
            f"{path}.second_pass.scale",
            Reason.DIMENSIONS_INVALID,
            f"Leaves {width}x{height} pixels as they are, so that {upscaler.model_id} has "
            "nothing to do; must make them more, or enlarge with PIXELS.",
        )


def _redraws(upscaler: Model) -> bool:
    """Whether it changes pictures that it leaves in their size."""
    return upscaler.enlargement is not None and upscaler.enlargement.factor == 1
