"""Another size."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between
from domains.chain.types import ResizeFilter, ResizeStep
from domains.picture.types import ResizeFit

_FILTERS: Mapping[ResizeFilter, Image.Resampling] = {
    ResizeFilter.LANCZOS: Image.Resampling.LANCZOS,
    ResizeFilter.BICUBIC: Image.Resampling.BICUBIC,
    ResizeFilter.BILINEAR: Image.Resampling.BILINEAR,
    ResizeFilter.NEAREST: Image.Resampling.NEAREST,
    ResizeFilter.BOX: Image.Resampling.BOX,
    ResizeFilter.HAMMING: Image.Resampling.HAMMING,
}


def resize(canvas: Canvas, step: ResizeStep, between: Between) -> Canvas:
    """Compute the picture at another size, as Pillow's `Image.resize` does.

    STRETCH distorts; CONTAIN makes it as large as fits inside and adds nothing around it; COVER
    fills the size with the picture's middle. Filters work on sRGB levels; made smaller, their
    support grows with the scale, so that nothing aliases (NEAREST takes single pixels). Where
    there is an alpha, colours are multiplied by it meanwhile, but for NEAREST: what cannot be
    seen does not bleed into what can. The same size changes nothing.
    """
    size = step.size_after(canvas.size)
    if size == canvas.size:
        return canvas
    box = _covered(canvas.size, size) if step.fit is ResizeFit.COVER else None
    return Canvas.of_image(canvas.image().resize(size, _FILTERS[step.filter], box))


def _covered(
    size: tuple[int, int], wanted: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The middle of a picture that has the shape of `wanted`: left, top, right, bottom."""
    width = min(size[0], size[1] * wanted[0] / wanted[1])
    height = min(size[1], size[0] * wanted[1] / wanted[0])
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    # A box may not reach beyond the picture by a rounded-up hair.
    return left, top, min(left + width, size[0]), min(top + height, size[1])
