"""What size a picture has after each step of a chain, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domains.chain.types import CropStep, Size, Step, size_after
from domains.errors import FieldViolation, Reason
from domains.picture.types import MOST_EDGE, MOST_PIXELS
from domains.values import ImageFileFormat

FORMAT_EDGES: Mapping[ImageFileFormat, int] = {
    ImageFileFormat.PNG: MOST_EDGE,
    ImageFileFormat.JPEG: MOST_EDGE,
    ImageFileFormat.WEBP: 16_383,
    ImageFileFormat.AVIF: MOST_EDGE,
}
"""The longest edge that a file of each format can have here."""


@dataclass(frozen=True)
class Sizes:
    """Sizes after each step, as far as steps go together; `violation` is why they end early."""

    sizes: tuple[Size, ...]
    violation: FieldViolation | None = None


def sizes_of(steps: Sequence[Step], size: Size, path: str) -> Sizes:
    """The size after each step.

    Args:
        steps: Checked by themselves.
        size: Of the picture before the first.
        path: Where the steps stand in the request.
    """
    found: list[Size] = []
    for at, step in enumerate(steps):
        before, size = size, size_after(step, size)
        broken = _broken(step, before, size, f"{path}[{at}].{step.field}")
        if broken is not None:
            return Sizes(tuple(found), broken)
        found.append(size)
    return Sizes(tuple(found))


def check_format(size: Size, format: ImageFileFormat, field: str) -> list[FieldViolation]:
    """Refuse a picture that no file of that format can hold."""
    most = FORMAT_EDGES[format]
    if max(size) <= most:
        return []
    rule = (
        f"A {format.value.upper()} file has at most {most} pixels along an edge, and the "
        f"picture becomes {size[0]}x{size[1]}; choose another format."
    )
    return [FieldViolation(field, Reason.FIELDS_CONFLICT, rule)]


def _broken(step: Step, before: Size, size: Size, field: str) -> FieldViolation | None:
    if isinstance(step, CropStep) and (
        step.left + step.width > before[0] or step.top + step.height > before[1]
    ):
        rule = (
            f"Must lie inside the picture, which has {before[0]}x{before[1]} pixels at this "
            "point of the chain."
        )
        return FieldViolation(field, Reason.DIMENSIONS_INVALID, rule)
    if size[0] * size[1] > MOST_PIXELS or max(size) > MOST_EDGE:
        rule = (
            f"Makes {size[0]}x{size[1]} pixels of {before[0]}x{before[1]}; a picture may have "
            f"at most {MOST_PIXELS} pixels, and {MOST_EDGE} along an edge."
        )
        return FieldViolation(field, Reason.DIMENSIONS_INVALID, rule)
    return None
