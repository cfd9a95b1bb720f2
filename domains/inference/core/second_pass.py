"""What a second pass needs of the settings it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from domains.errors import FieldViolation, Reason
from domains.inference.core.later_parts import own_steps
from domains.inference.core.plain_rules import plain
from domains.inference.core.sampling_rules import check_guidance
from domains.inference.types import GenerationSettings, steps_by_strength
from domains.limits import LIMITS


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


def check_result_size(settings: GenerationSettings, path: str) -> Iterator[FieldViolation]:
    """Refuse pictures that would become too large; `settings` are resolved."""
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
