"""What follows the first pass of a generation, and has of it what it leaves open."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from domains.inference.types import GenerationSettings, Refiner, SecondPass

Part = TypeVar("Part", SecondPass, Refiner)


def own_steps(part: SecondPass | Refiner, settings: GenerationSettings) -> int:
    """Steps of the schedule of a part of `settings`: its own, or the first pass's."""
    return settings.steps if part.steps is None else part.steps


def resolved_part(part: Part | None, settings: GenerationSettings) -> Part | None:
    """A part of `settings` with nothing left open."""
    if part is None:
        return None
    return replace(
        part,
        steps=own_steps(part, settings),
        guidance=settings.guidance if part.guidance is None else part.guidance,
    )
