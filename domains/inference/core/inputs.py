"""The pictures that settings name: prepared by an inspector, and held against each other."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from domains.errors import FieldViolation, Reason
from domains.inference.errors import InvalidGeneration
from domains.inference.ports import PicturePreparer
from domains.inference.types import (
    GenerationRequest,
    GenerationSettings,
    ImageToImage,
    Inpainting,
)
from domains.limits import LIMITS
from domains.model.types import Model
from domains.picture.core import KeptPicture
from domains.picture.errors import InvalidPicture
from domains.picture.types import Canvas

_BRIGHTEST = 255


@dataclass(frozen=True)
class Inputs:
    """What a generation starts from; held for as long as the job may need the files."""

    picture: KeptPicture | None = None
    mask: KeptPicture | None = None

    def named_in(self, settings: GenerationSettings) -> GenerationSettings:
        """The settings with what was prepared for them, in its size."""
        if self.picture is None:
            return settings
        prepared, image = self.picture.prepared, self.picture.file
        sized = replace(settings, width=prepared.width, height=prepared.height)
        if settings.image_to_image is not None:
            start = replace(settings.image_to_image, image=image)
            return replace(sized, image_to_image=start)
        if settings.inpainting is not None:
            mask = None if self.mask is None else self.mask.file
            return replace(
                sized, inpainting=replace(settings.inpainting, image=image, mask=mask)
            )
        return sized


async def prepare(
    pictures: PicturePreparer, request: GenerationRequest, model: Model, path: str
) -> Inputs:
    """Have every picture prepared that a request names; `path` is where its settings stand.

    Raises:
        InvalidPicture: One cannot be used, or they do not go together.
        InvalidGeneration: DIMENSIONS_INVALID, with margins that leave the limits.
        DomainError: One is not there, or cannot be stored or read now.
    """
    settings = request.settings
    start = settings.start
    if start is None or request.image is None:
        return Inputs()
    canvas = Canvas(settings.width, settings.height, model.native_width, model.native_height)
    kind = "image_to_image" if isinstance(start, ImageToImage) else "inpainting"
    where = f"{path}.{kind}"
    picture = await pictures.prepare(request.image, f"{where}.image", canvas, start.fit)
    if isinstance(start, ImageToImage):
        return Inputs(picture)
    size = picture.prepared.width, picture.prepared.height
    _check_size(start, size, f"{where}.margins")
    if request.mask is None:
        return Inputs(picture)
    field = f"{where}.mask"
    mask = await pictures.prepare(
        request.mask, field, Canvas(*size, *size), start.fit, grey=True
    )
    _check_mask(start, picture, mask, field)
    return Inputs(picture, mask)


def _check_size(start: Inpainting, size: tuple[int, int], field: str) -> None:
    """Whether the picture is still one that can be drawn, with its margins."""
    if not start.margins:
        return
    width, height = start.margins.around(*size)
    limit = LIMITS["GenerationSettings.width"]
    most, step = int(limit.maximum or 0), limit.multiple_of or 1
    if max(width, height) > most or width % step or height % step:
        rule = (
            f"Around {size[0]}x{size[1]} pixels they make {width}x{height}; each edge must be "
            f"a multiple of {step}, and {most} at most."
        )
        raise InvalidGeneration.of(FieldViolation(field, Reason.DIMENSIONS_INVALID, rule))


def _check_mask(start: Inpainting, picture: KeptPicture, mask: KeptPicture, field: str) -> None:
    """Whether a mask is as large as its picture, and says that something is redrawn."""
    theirs = picture.report.source_width, picture.report.source_height
    own = mask.report.source_width, mask.report.source_height
    if own != theirs:
        raise InvalidPicture.at(
            field,
            Reason.IMAGE_SIZE_MISMATCH,
            f"Is {own[0]}x{own[1]} pixels and the picture, upright, {theirs[0]}x{theirs[1]}; "
            "send a mask of the picture's size.",
        )
    report, turned = mask.report, start.invert_mask
    nothing = report.darkest == _BRIGHTEST if turned else report.brightest == 0
    if nothing and not start.margins:
        colour, other = ("white", "black") if turned else ("black", "white")
        raise InvalidPicture.at(
            field,
            Reason.FIELD_OUT_OF_RANGE,
            f"Is {colour} everywhere, so that nothing would be redrawn: {other} is redrawn. "
            "Its alpha does not count; invert_mask turns it round.",
        )
