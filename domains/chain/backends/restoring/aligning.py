"""Faces cut out so that eyes, nose and mouth lie where restorers expect them, and put back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domains.chain.backends.canvas import Pixels
from domains.chain.backends.restoring.restorer import EDGE

Places = NDArray[np.float64]

# Where the eyes, the tip of the nose and the middle of the mouth are in the squares that
# restorers were trained on: the mean face of FFHQ at 512 pixels, as facexlib has it.
_TEMPLATE = np.array(
    ((192.98, 239.95), (318.90, 240.19), (256.63, 314.02), (257.18, 371.28)), np.float64
)
# What the part outside the picture is filled with, as at training.
_OUTSIDE = (132, 133, 135)
# At the edges of the square the restored face fades into the picture over so many pixels.
_FEATHER = 64
_PAD = 32
_Matrix = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Alignment:
    """A similarity from a picture to the square: (x, y) becomes `factor` times that as a
    complex number, plus `offset`; it turns, scales and moves."""

    factor: complex
    offset: complex

    @classmethod
    def of_points(cls, points: Places) -> Alignment | None:
        """The one that brings eyes, nose and mouth nearest to their places, by the least sum
        of squares; None where all points are one.

        Args:
            points: float64 `[4, 2]`, x and y in pixels of the picture.
        """
        taken, wanted = (each @ np.array((1, 1j)) for each in (points, _TEMPLATE))
        middle, target = taken.mean(), wanted.mean()
        spread = float(np.sum(np.abs(taken - middle) ** 2))
        if spread < 1e-6:
            return None
        factor = complex(np.sum((wanted - target) * (taken - middle).conj()) / spread)
        if abs(factor) < 1e-6:
            return None
        return cls(factor, complex(target - factor * middle))

    def cut_out(self, pixels: Pixels) -> Pixels:
        """The face of a picture as uint8 `[512, 512, 3]`."""
        image, shrunk = _reduced(Image.fromarray(pixels), 1 / abs(self.factor))
        matrix = _matrix(1 / self.factor / shrunk, -self.offset / self.factor / shrunk)
        return np.asarray(
            image.transform(
                (EDGE, EDGE),
                Image.Transform.AFFINE,
                matrix,
                Image.Resampling.BICUBIC,
                fillcolor=_OUTSIDE,
            )
        )

    def put_back(self, pixels: Pixels, restored: Pixels, strength: float) -> Pixels:
        """The picture with a restored face in place of its own.

        Args:
            pixels: uint8 `[height, width, 3]`.
            restored: uint8 `[512, 512, 3]`.
            strength: How much of it, 0 to 1, where it does not fade into the picture.
        """
        left, top, right, bottom = self._box(pixels)
        if right <= left or bottom <= top:
            return pixels
        size, corner = (right - left, bottom - top), complex(left, top)
        weights = Image.fromarray(_fading())
        # Beyond its edge the square goes on, so that nothing else shines in; it counts
        # for nothing there.
        wide = Image.fromarray(np.pad(restored, ((_PAD, _PAD), (_PAD, _PAD), (0, 0)), "edge"))
        face = np.asarray(self._moved(wide, size, corner, _PAD), np.float32)
        weight = np.asarray(self._moved(weights, size, corner, 0), np.float32)[..., None]
        weight = weight * np.float32(strength / 255)
        made = pixels.copy()
        part = made[top:bottom, left:right]
        blended = part + (face - part) * weight
        made[top:bottom, left:right] = np.rint(blended).clip(0, 255).astype(np.uint8)
        return made

    def _moved(
        self, square: Image.Image, size: tuple[int, int], corner: complex, pad: int
    ) -> Image.Image:
        """What of a square lies in a box of the picture."""
        image, shrunk = _reduced(square, abs(self.factor))
        matrix = _matrix(
            self.factor / shrunk,
            (self.factor * corner + self.offset + complex(pad, pad)) / shrunk,
        )
        return image.transform(
            size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=0
        )

    def _box(self, pixels: Pixels) -> tuple[int, int, int, int]:
        """Of the picture, what the square covers: left, top, right, bottom."""
        height, width = pixels.shape[:2]
        corners = [
            (complex(x, y) - self.offset) / self.factor for x in (0, EDGE) for y in (0, EDGE)
        ]
        across, down = [each.real for each in corners], [each.imag for each in corners]
        return (
            max(0, math.floor(min(across))),
            max(0, math.floor(min(down))),
            min(width, math.ceil(max(across))),
            min(height, math.ceil(max(down))),
        )


def _matrix(factor: complex, offset: complex) -> _Matrix:
    """Multiplying by `factor` and adding `offset`, as Pillow wants it."""
    return factor.real, -factor.imag, offset.real, factor.imag, factor.real, offset.imag


def _reduced(image: Image.Image, scale: float) -> tuple[Image.Image, int]:
    """An image whose pixels are averaged in blocks where every `scale`-th is taken, so that
    none is passed over; and the edge of the blocks."""
    blocks = max(1, min(int(scale), *image.size))
    return (image.reduce(blocks) if blocks > 1 else image), blocks


def _fading() -> Pixels:
    """How much the restored face counts: 255, and less towards the edges, where it is 0."""
    places = np.arange(EDGE) + 0.5
    inside = np.clip(np.minimum(places, EDGE - places) / _FEATHER, 0, 1)
    smooth = inside * inside * (3 - 2 * inside)
    levels: Pixels = np.rint(np.outer(smooth, smooth) * 255).astype(np.uint8)
    return levels
