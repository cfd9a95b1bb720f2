"""What a generation starts from, by the options of `generate`."""

from __future__ import annotations

from dataclasses import dataclass

from deviceops.v1 import common_pb2, generation_pb2
from server.cli.choices import UnusableOptions, choose
from server.cli.field_values import Picture

_SIDES = ("left_pixels", "top_pixels", "right_pixels", "bottom_pixels")
_MOST = 2**31 - 1


@dataclass(frozen=True)
class StartOptions:
    """Without an `image`, and an `inpaint` of which a part is redrawn, it is noise."""

    image: str | None = None
    inpaint: str | None = None
    strength: float | None = None
    fit: str | None = None
    mask: str | None = None
    invert_mask: bool = False
    mask_blur: int | None = None
    fill: str | None = None
    margins: str | None = None
    crop_margin: int | None = None
    keep_unmasked: bool = False


def put_start(
    settings: generation_pb2.GenerationSettings, options: StartOptions, picture: Picture
) -> None:
    """Write what is asked for into the settings.

    Raises:
        UnusableOptions: An option has nothing to be about, or a picture cannot be read.
    """
    _check(options)
    if options.image is not None:
        _put_common(settings.image_to_image, options.image, options, picture)
    elif options.inpaint is not None:
        _put_common(settings.inpainting, options.inpaint, options, picture)
        _put_inpainting(settings.inpainting, options, picture)


def parse_margins(text: str) -> generation_pb2.OutpaintingMargins:
    """Margins as `LEFT,TOP,RIGHT,BOTTOM`, or one number for all. Raises UnusableOptions."""
    parts = text.replace(",", " ").split()
    numbers = [int(part) for part in parts if part.isdecimal() and int(part) <= _MOST]
    if len(numbers) != len(parts) or len(numbers) not in (1, 4):
        raise UnusableOptions(f"--margins: {text!r} is not LEFT,TOP,RIGHT,BOTTOM")
    four = numbers * 4 if len(numbers) == 1 else numbers
    return generation_pb2.OutpaintingMargins(**dict(zip(_SIDES, four, strict=True)))


def _check(options: StartOptions) -> None:
    """Whether every option has a picture that it is about."""
    if options.image is not None and options.inpaint is not None:
        raise UnusableOptions("--image starts from a picture, --inpaint redraws a part of it")
    of_both = {"--strength": options.strength, "--fit": options.fit}
    of_inpainting = {
        "--mask": options.mask,
        "--invert-mask": options.invert_mask or None,
        "--mask-blur": options.mask_blur,
        "--fill": options.fill,
        "--margins": options.margins,
        "--crop-margin": options.crop_margin,
        "--keep-unmasked": options.keep_unmasked or None,
    }
    for option, value in of_both.items():
        if value is not None and options.image is None and options.inpaint is None:
            raise UnusableOptions(
                f"{option} is about a picture: name it with --image or --inpaint"
            )
    for option, value in of_inpainting.items():
        if value is not None and options.inpaint is None:
            raise UnusableOptions(f"{option} is about a picture: name it with --inpaint")
    for option, number in (
        ("--mask-blur", options.mask_blur),
        ("--crop-margin", options.crop_margin),
    ):
        if number is not None and abs(number) > _MOST:
            raise UnusableOptions(f"{option}: {number} does not fit into 32 bits")


def _put_common(
    start: generation_pb2.ImageToImage | generation_pb2.Inpainting,
    image: str,
    options: StartOptions,
    picture: Picture,
) -> None:
    start.image.CopyFrom(picture(image))
    if options.strength is not None:
        start.strength = options.strength
    if options.fit is not None:
        start.fit = choose(common_pb2.ResizeFit, "RESIZE_FIT_", options.fit)


def _put_inpainting(
    start: generation_pb2.Inpainting, options: StartOptions, picture: Picture
) -> None:
    if options.mask is not None:
        start.mask.CopyFrom(picture(options.mask))
    if options.margins is not None:
        start.margins.CopyFrom(parse_margins(options.margins))
    if options.fill is not None:
        start.fill = choose(generation_pb2.InpaintingFill, "INPAINTING_FILL_", options.fill)
    if options.mask_blur is not None:
        start.mask_blur_pixels = options.mask_blur
    if options.crop_margin is not None:
        start.crop_margin_pixels = options.crop_margin
    start.invert_mask = options.invert_mask
    start.keep_unmasked_pixels = options.keep_unmasked
