"""The picture of an inpainting, in pixels: what is shown to the model, and what it becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps

from domains.inference.backends.images import Pixels
from domains.inference.types import Inpainting, InpaintingFill

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; the last two lie outside."""

_WHITE = 255
# Radius and repetitions of the blurs that lie on each other, the narrow ones above.
_BLURS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))


@dataclass(frozen=True)
class MaskedPicture:
    """A picture in the size of the result (mode RGB), its mask (mode L, white is redrawn), what
    of it a drawn one covers (mode L, white is covered), and the part of it that is drawn; None
    for the whole."""

    picture: Image.Image
    mask: Image.Image
    cover: Image.Image
    box: Box | None
    inpainting: Inpainting

    @property
    def pixels(self) -> Pixels:
        """The part of the picture that is drawn, as it was: uint8 `[height, width, 3]`."""
        return np.asarray(self._part(self.picture))

    def shown(self) -> Pixels:
        """What the model starts from: uint8 `[height, width, 3]`."""
        image = self._part(self.picture)
        if self.inpainting.fill is InpaintingFill.BLUR:
            image = fill_from_surroundings(image, self._part(self.mask))
        return np.asarray(image)

    def part_of(self, pixels: Pixels) -> Pixels:
        """What of another picture of the same size belongs to the part that is drawn, as large.

        Args:
            pixels: uint8 `[height, width, 3]`.
        """
        return pixels if self.box is None else np.asarray(self._part(Image.fromarray(pixels)))

    def enlarged(
        self, width: int, height: int, enlarge: Callable[[Pixels, int, int], Pixels]
    ) -> MaskedPicture:
        """The same with picture and masks of another size, the masks by Lanczos; of the whole
        picture alone.

        Args:
            width: In pixels.
            height: In pixels.
            enlarge: Gives a picture in another height and width.
        """
        pixels = enlarge(np.asarray(self.picture), height, width)
        mask, cover = (
            each.resize((width, height), Image.Resampling.LANCZOS)
            for each in (self.mask, self.cover)
        )
        return replace(self, picture=Image.fromarray(pixels), mask=mask, cover=cover)

    def redrawn(self) -> torch.Tensor:
        """What of it is redrawn: float32 `[1, 1, height, width]`, 1 where the mask is at least
        half white and 0 elsewhere, as diffusers' `VaeImageProcessor.binarize` has it."""
        values = np.asarray(self._part(self.mask))[None, :, :, None].astype(np.float32) / 255.0
        redrawn = (values >= 0.5).astype(np.float32)
        # Turned as there: how it lies in memory decides how what it is multiplied with lies,
        # and so how the UNet rounds.
        return torch.from_numpy(redrawn.transpose(0, 3, 1, 2))

    def finished(self, drawn: Pixels) -> Pixels:
        """The result: what was drawn, with the kept part copied back where that is asked for.

        Args:
            drawn: uint8 `[height, width, 3]`.
        """
        if self.box is None and not self.inpainting.keep_unmasked_pixels:
            return drawn
        image = Image.fromarray(drawn)
        if self.box is not None:
            left, top, right, bottom = self.box
            part = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
            image = Image.new("RGB", self.picture.size)
            image.paste(part, (left, top))
        return np.asarray(overlaid(image, self.picture, self.cover))

    def _part(self, image: Image.Image) -> Image.Image:
        if self.box is None:
            return image
        return image.crop(self.box).resize(self.picture.size, Image.Resampling.LANCZOS)


def lay_out(inpainting: Inpainting, picture: Pixels, mask: Pixels | None) -> MaskedPicture:
    """Picture and mask with margins, blurred, and the part that is drawn found.

    Args:
        inpainting: What is asked for.
        picture: uint8 `[height, width, 3]`.
        mask: uint8 `[height, width]`; None keeps all but the margins.
    """
    margins = inpainting.margins
    rows = (margins.top_pixels, margins.bottom_pixels)
    columns = (margins.left_pixels, margins.right_pixels)
    kept = np.zeros(picture.shape[:2], np.uint8)
    if mask is None:
        mask = kept
    elif inpainting.invert_mask:
        mask = _WHITE - mask
    marked, added = (
        _blurred(
            np.pad(each, (rows, columns), constant_values=_WHITE), inpainting.mask_blur_pixels
        )
        for each in (mask, kept)
    )
    # What is half as bright at the old edges is white here: beyond them nothing can be kept.
    cover = ImageChops.lighter(marked, ImageChops.add(added, added)) if margins else marked
    whole = Image.fromarray(np.pad(picture, (rows, columns, (0, 0)), mode="edge"))
    box = None
    if inpainting.crop_margin_pixels is not None:
        box = box_around(marked, inpainting.crop_margin_pixels)
    return MaskedPicture(whole, marked, cover, box, inpainting)


def box_around(mask: Image.Image, margin: int) -> Box | None:
    """The part of a picture around all that is not black in its mask, of the picture's shape;
    None where all is black. As diffusers' `VaeImageProcessor.get_crop_region`.

    Args:
        mask: Mode L.
        margin: Pixels around it.
    """
    found = mask.getbbox()
    if found is None:
        return None
    left, right = max(found[0] - margin, 0), min(found[2] + margin, mask.width)
    top, bottom = max(found[1] - margin, 0), min(found[3] + margin, mask.height)
    shape = mask.width / mask.height
    if (right - left) / (bottom - top) > shape:
        top, bottom = _grown(top, bottom, (right - left) / shape, mask.height)
    else:
        left, right = _grown(left, right, (bottom - top) * shape, mask.width)
    return left, top, right, bottom


def overlaid(image: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """An image with an original over it where its mask is black; grey blends. As diffusers'
    `VaeImageProcessor.apply_overlay`.

    Args:
        image: Mode RGB.
        original: Mode RGB, of the same size.
        mask: Mode L, of the same size.
    """
    above = _cut_out(original, mask).convert("RGBA")
    result = image.convert("RGBA")
    result.alpha_composite(above)
    return result.convert("RGB")


def fill_from_surroundings(image: Image.Image, mask: Image.Image) -> Image.Image:
    """An image whose masked part holds the colours around it, the more blurred the farther
    away they are. As "fill" of AUTOMATIC1111's stable-diffusion-webui, `modules/masking.py`.

    Args:
        image: Mode RGB.
        mask: Mode L, of the same size.
    """
    around = _cut_out(image, mask)
    filled = Image.new("RGBA", image.size)
    for radius, times in _BLURS:
        blurred = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            filled.alpha_composite(blurred)
    return filled.convert("RGB")


def _blurred(mask: npt.NDArray[np.uint8], pixels: int) -> Image.Image:
    """A mask, `[height, width]`, with edges that are so soft."""
    image = Image.fromarray(mask)
    return image.filter(ImageFilter.GaussianBlur(pixels)) if pixels else image


def _cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """What is kept of it, its alpha multiplied in: mode RGBa."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    return kept


def _grown(first: int, last: int, wanted: float, most: int) -> tuple[int, int]:
    """A range of about `wanted` around the middle of another, within 0 to `most`."""
    missing = int(wanted - (last - first))
    first, last = first - missing // 2, last + missing - missing // 2
    if last >= most:
        first, last = first - (last - most), most
    if first < 0:
        first, last = 0, last - first
    return first, min(last, most)
