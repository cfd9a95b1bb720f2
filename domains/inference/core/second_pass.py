"""What a second pass needs of the settings it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from domains.errors import FieldViolation, Reason
from domains.inference.types import GenerationSettings, SecondPass
from domains.limits import LIMITS


def resolved_pass(settings: GenerationSettings) -> SecondPass | None:
    """The second pass with nothing left open."""
    asked = settings.second_pass
    if asked is None:
        return None
    return replace(
        asked,
        steps=settings.steps if asked.steps is None else asked.steps,
        guidance=settings.guidance if asked.guidance is None else asked.guidance,
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
