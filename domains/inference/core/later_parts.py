"""What follows the first pass of a generation; what it leaves open is as in the pass before."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    Refiner,
    SecondPass,
)

Part = TypeVar("Part", SecondPass, Refiner)


def own_steps(part: SecondPass | Refiner, settings: GenerationSettings) -> int:
    """Steps of the schedule of a part of `settings`: its own, or those of the pass before."""
    if part.steps is not None:
        return part.steps
    before = _before(part, settings)
    return settings.steps if before is None else own_steps(before, settings)


def resolved_part(part: Part | None, settings: GenerationSettings) -> Part | None:
    """A part of `settings` with nothing left open."""
    if part is None:
        return None
    return replace(
        part, steps=own_steps(part, settings), guidance=_own_guidance(part, settings)
    )


def _own_guidance(part: SecondPass | Refiner, settings: GenerationSettings) -> GuidanceSettings:
    if part.guidance is not None:
        return part.guidance
    before = _before(part, settings)
    return settings.guidance if before is None else _own_guidance(before, settings)


def _before(part: SecondPass | Refiner, settings: GenerationSettings) -> SecondPass | None:
    """The second pass that a refiner finishes; None: the first pass comes before the part."""
    return settings.second_pass if isinstance(part, Refiner) else None
