"""From an ordinary picture to a control picture of the same size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from domains.picture.backends.control.canny import canny
from domains.picture.backends.control.face_mask import face_mask
from domains.picture.backends.control.lines import line_art, scribble, soft_edges
from domains.picture.types import (
    CannyOptions,
    ControlOptions,
    ControlPreprocessor,
    FaceMaskOptions,
    GreyOptions,
    LineArtOptions,
    ScribbleOptions,
    SoftEdgeOptions,
    TileOptions,
)


def control_picture(image: Image.Image, preprocessor: ControlPreprocessor) -> Image.Image:
    """What a preprocessor makes of a picture; both have mode RGB and the same size.

    Where it works at another size than the picture's, that is reached with Lanczos, and the
    way back is bilinear.
    """
    size = preprocessor.working_size(*image.size)
    if size != image.size:
        smaller = image.resize(size, Image.Resampling.LANCZOS)
        made = _made(smaller, preprocessor.options)
        return made.resize(image.size, Image.Resampling.BILINEAR)
    return _made(image, preprocessor.options)


def _made(image: Image.Image, options: ControlOptions) -> Image.Image:
    pixels = np.asarray(image)
    match options:
        case CannyOptions(low=low, high=high):
            edges = canny(pixels, low, high)
            return _of_levels(np.where(edges, 255, 0).astype(np.uint8))
        case SoftEdgeOptions(radius_pixels=radius):
            return _of_levels(soft_edges(pixels, radius))
        case LineArtOptions(threshold=threshold):
            return _of_levels(line_art(pixels, threshold))
        case ScribbleOptions(stroke_pixels=stroke):
            return _of_levels(scribble(pixels, stroke))
        case GreyOptions():
            return image.convert("L").convert("RGB")
        case TileOptions(factor=factor):
            return _tiled(image, factor)
        case FaceMaskOptions(padding, blur, confidence):
            return face_mask(pixels, padding, blur, confidence).convert("RGB")


def _of_levels(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels).convert("RGB")


def _tiled(image: Image.Image, factor: int) -> Image.Image:
    """With `factor` times fewer pixels along each edge, by their mean, and back, bicubic."""
    small = tuple(max(round(edge / factor), 1) for edge in image.size)
    if small == image.size:
        return image
    shrunk = image.resize((small[0], small[1]), Image.Resampling.BOX)
    return shrunk.resize(image.size, Image.Resampling.BICUBIC)
