"""A picture between two steps of a chain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """A picture in memory; steps make new ones and never change it.

    Attributes:
        pixels: uint8 `[height, width, 3]`, sRGB: red, green, blue as a PNG has them.
        alpha: uint8 `[height, width]`, 255 is opaque; None where all is. Colours are not
            multiplied by it.
    """

    pixels: Pixels
    alpha: Pixels | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.pixels.shape[:2]
        return width, height

    @classmethod
    def of_image(cls, image: Image.Image) -> Canvas:
        """The pixels of an image of mode RGB or RGBA."""
        values = np.asarray(image)
        if image.mode == "RGB":
            return cls(values)
        return cls(np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3]))

    def image(self) -> Image.Image:
        """As an image of mode RGB, or RGBA where there is an alpha."""
        return Image.fromarray(self.whole())

    def whole(self) -> Pixels:
        """uint8 `[height, width, 3]`, or 4 where there is an alpha."""
        if self.alpha is None:
            return self.pixels
        return np.dstack((self.pixels, self.alpha))
