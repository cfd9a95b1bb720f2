"""Values of inpainting: which part of a picture is redrawn, and from what."""

from __future__ import annotations

from enum import Enum

from msgspec.structs import replace

from domains.codec import Count, Value
from domains.inference.types.passes import Share
from domains.limits import default_of
from domains.picture.types import PictureFile, ResizeFit


class InpaintingFill(Enum):
    """What the redrawn part holds before it is noised."""

    ORIGINAL = "original"
    NOISE = "noise"
    BLUR = "blur"
    EMPTY = "empty"


class OutpaintingMargins(Value, frozen=True):
    """Pixels added around a picture."""

    left_pixels: Count = 0
    top_pixels: Count = 0
    right_pixels: Count = 0
    bottom_pixels: Count = 0

    def __bool__(self) -> bool:
        """Whether any are added."""
        return any((self.left_pixels, self.top_pixels, self.right_pixels, self.bottom_pixels))

    def around(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a picture of that size with them."""
        return (
            width + self.left_pixels + self.right_pixels,
            height + self.top_pixels + self.bottom_pixels,
        )


class Inpainting(Value, frozen=True):
    """Redraw a part of a picture, of which `strength` (0 to 1) is noised away.

    White of the mask is redrawn, black kept; without a mask the margins are redrawn alone.
    With a `crop_margin_pixels` the part and so much around it is drawn alone, enlarged.
    `image` and `mask` are which files; None until they were prepared.
    """

    strength: Share = default_of("Inpainting.strength")
    fill: InpaintingFill = InpaintingFill.ORIGINAL
    invert_mask: bool = False
    mask_blur_pixels: Count = int(default_of("Inpainting.mask_blur_pixels"))
    crop_margin_pixels: Count | None = None
    keep_unmasked_pixels: bool = False
    fit: ResizeFit = ResizeFit.STRETCH
    margins: OutpaintingMargins = OutpaintingMargins()
    image: PictureFile | None = None
    mask: PictureFile | None = None

    def again(self, strength: float) -> Inpainting:
        """The same for what has been drawn in the part, with the margins in it."""
        return replace(
            self,
            strength=strength,
            fill=InpaintingFill.ORIGINAL,
            margins=OutpaintingMargins(),
        )
