"""The rules that steps must keep whatever the picture is; every broken one is listed."""

from __future__ import annotations

from collections.abc import Iterator

from domains import checks
from domains.chain.core.font import first_missing
from domains.chain.types import (
    AskedChain,
    CropStep,
    CubeFile,
    LutStep,
    PadMode,
    PadStep,
    RotateStep,
    Step,
    UpscaleStep,
    WatermarkStep,
    colour_of,
)
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS, Limit
from domains.picture.core import check_image
from domains.picture.types import InputImage

_REASONS = {"width": Reason.DIMENSIONS_INVALID, "height": Reason.DIMENSIONS_INVALID}
_CORNER = Limit("CropStep.left", minimum=0, unit="pixels")


def check_chain(chain: AskedChain, path: str, limit: Limit) -> Iterator[FieldViolation]:
    """Every rule that a chain breaks.

    Args:
        chain: As it is asked for.
        path: Where its steps stand in the request ("steps").
        limit: Of their number.
    """
    too_many = checks.elements(path, len(chain.steps), limit)
    if too_many is not None:
        yield too_many
        return
    for at, step in enumerate(chain.steps):
        field = f"{path}[{at}].{step.field}"
        yield from _numbers(step, field)
        match step:
            case UpscaleStep():
                yield from _tiles(step, field)
            case CropStep():
                for name, value in (("left", step.left), ("top", step.top)):
                    yield from _found(
                        checks.number(
                            f"{field}.{name}", value, _CORNER, reason=Reason.DIMENSIONS_INVALID
                        )
                    )
            case RotateStep() | PadStep():
                yield from _fill(step, f"{field}.fill")
            case LutStep():
                yield from _cube(chain.cubes.get(at, CubeFile()), field)
            case WatermarkStep():
                yield from _mark(step, chain.marks.get(at), field)


def _numbers(step: Step, field: str) -> Iterator[FieldViolation]:
    for name in step.__struct_fields__:
        limit, value = LIMITS.get(f"{type(step).__name__}.{name}"), getattr(step, name)
        if limit is not None and isinstance(value, int | float):
            reason = _REASONS.get(name, Reason.FIELD_OUT_OF_RANGE)
            yield from _found(checks.number(f"{field}.{name}", value, limit, reason=reason))


def _tiles(step: UpscaleStep, field: str) -> Iterator[FieldViolation]:
    if step.tile_pixels and step.tile_overlap_pixels * 2 >= step.tile_pixels:
        rule = f"Must be less than half of tile_pixels, which is {step.tile_pixels}."
        yield FieldViolation(f"{field}.tile_overlap_pixels", Reason.FIELDS_CONFLICT, rule)


def _fill(step: RotateStep | PadStep, field: str) -> Iterator[FieldViolation]:
    if isinstance(step, PadStep) and step.fill and step.mode is not PadMode.FILL:
        rule = f"Has no effect with mode {step.mode.name}; leave one of the two out."
        yield FieldViolation(field, Reason.FIELDS_CONFLICT, rule)
    elif colour_of(step.fill) is None:
        rule = 'Must be a colour, "#RRGGBB" or "#RRGGBBAA", or empty for transparent.'
        yield FieldViolation(field, Reason.TEXT_INVALID, rule)


def _cube(file: CubeFile, field: str) -> Iterator[FieldViolation]:
    if file.inline is not None:
        size = len(file.inline)
        yield from _found(checks.size(f"{field}.cube", size, LIMITS["LutStep.cube"]))
    elif file.artifact_id:
        yield from _found(checks.sha256(f"{field}.artifact_id", file.artifact_id))
    else:
        rule = "Must have a table: cube or artifact_id."
        yield FieldViolation(field, Reason.REQUIRED_FIELD_MISSING, rule)


def _mark(
    step: WatermarkStep, image: InputImage | None, field: str
) -> Iterator[FieldViolation]:
    if image is not None:
        yield from check_image(image, f"{field}.image")
        return
    text, where = step.text, f"{field}.text"
    if not text.strip():
        rule = "Must be set, with something to see in it, unless there is an image."
        yield FieldViolation(where, Reason.REQUIRED_FIELD_MISSING, rule)
        return
    broken = checks.line(where, text, LIMITS["WatermarkStep.text"])
    missing = first_missing(text)
    if broken is None and missing is not None:
        rule = (
            f"Holds U+{ord(text[missing]):04X} at position {missing}, which the built-in font "
            "does not have: it writes English; put other marks on as an image."
        )
        broken = FieldViolation(where, Reason.TEXT_INVALID, rule)
    yield from _found(broken)


def _found(violation: FieldViolation | None) -> list[FieldViolation]:
    return [] if violation is None else [violation]
