"""Where faces are, as a mask."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFilter

from domains.picture.backends.carried.faces import find_faces
from domains.picture.backends.carried.network import Pixels

# Ovals are drawn larger and made smaller, so that their edges are smooth: small ones, where
# steps would be seen.
_FINER, _SMALL = 4, 1024


def face_mask(
    pixels: Pixels, padding: float, blur_pixels: int, least_confidence: float
) -> Image.Image:
    """White ovals on black; all black where no face is found.

    Args:
        pixels: uint8 `[height, width, 3]`.
        padding: How far an oval reaches beyond the face on each side, as a share of the
            face's width and height.
        blur_pixels: Spread of a Gaussian over the mask; 0 for none.
        least_confidence: How surely something has to be a face, 0 to 1.

    Returns:
        Of mode L and the picture's size.
    """
    height, width = pixels.shape[:2]
    mask = Image.new("L", (width, height))
    for face in find_faces(pixels, least_confidence):
        left, top, right, bottom = face.box
        beside, above = (right - left) * padding, (bottom - top) * padding
        oval = (left - beside, top - above, right + beside, bottom + above)
        _draw(mask, oval)
    return mask.filter(ImageFilter.GaussianBlur(blur_pixels)) if blur_pixels else mask


def _draw(mask: Image.Image, oval: tuple[float, float, float, float]) -> None:
    """White where the oval is, in the part of the mask that it touches."""
    left, top = max(0, int(oval[0])), max(0, int(oval[1]))
    right, bottom = min(mask.width, int(oval[2]) + 1), min(mask.height, int(oval[3]) + 1)
    if right <= left or bottom <= top:
        return
    size = (right - left, bottom - top)
    times = _FINER if max(size) <= _SMALL else 1
    finer = Image.new("L", (size[0] * times, size[1] * times))
    corners = [
        (each - corner) * times
        for each, corner in zip(oval, (left, top, left, top), strict=True)
    ]
    ImageDraw.Draw(finer).ellipse(corners, fill=255)
    mask.paste(255, (left, top), finer.resize(size, Image.Resampling.BOX))
