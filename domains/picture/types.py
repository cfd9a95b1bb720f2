"""Values of input pictures: where one comes from, what it shall become, what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from domains.codec import ByteCount, Sha256, Value
from domains.limits import LIMITS
from domains.session.types import Edge

MOST_BYTES = 268_435_456
MOST_PIXELS = 67_108_864
MOST_EDGE = 32_768
"""The contract's limits of an input picture, on `InputImage`."""


class ResizeFit(Enum):
    """What happens when a picture's shape is not the one that is needed."""

    STRETCH = "stretch"
    CONTAIN = "contain"
    COVER = "cover"


@dataclass(frozen=True)
class InputImage:
    """A picture as a client names it: one of the three, or nothing where it names none.

    `inline` are the bytes of a file; a `session_id` goes with the picture's `image_index`.
    """

    inline: bytes | None = None
    artifact_id: str = ""
    session_id: str = ""
    image_index: int = 0


class PictureFile(Value, frozen=True):
    """Which file a picture was: the SHA-256 of its bytes, and whether it is an artifact of
    that id or came inline."""

    sha256: Sha256
    artifact: bool


class Canvas(Value, frozen=True):
    """The size in pixels that a picture is brought to; None is left to the picture's shape.

    Then it has about as many pixels as the native size, or the shape that goes with the edge
    that is asked for: within what a generation accepts, on its grid.
    """

    width: Edge | None
    height: Edge | None
    native_width: Edge
    native_height: Edge

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Width and height for an upright picture of this size."""
        shape = width / height
        if self.width is not None and self.height is not None:
            return self.width, self.height
        if self.width is not None:
            return self.width, _on_grid("height", self.width / shape)
        if self.height is not None:
            return _on_grid("width", self.height * shape), self.height
        area = self.native_width * self.native_height
        wide, high = math.sqrt(area * shape), math.sqrt(area / shape)
        # The shape counts for more than the number of pixels.
        least = LIMITS["GenerationSettings.width"].minimum or 1
        grown = max(least / wide, least / high, 1.0)
        return _on_grid("width", wide * grown), _on_grid("height", high * grown)


class PreparedPicture(Value, frozen=True):
    """Pixels in a file of this server: 8-bit sRGB, red, green, blue, row by row from above,
    and nothing else; of a `grey` one a byte each. `sha256` is of that file."""

    path: Path
    width: Edge
    height: Edge
    sha256: Sha256
    grey: bool = False

    @property
    def size_bytes(self) -> ByteCount:
        """Of the file."""
        return bytes_of(self.width, self.height, grey=self.grey)


def bytes_of(width: int, height: int, *, grey: bool) -> int:
    """Of a prepared picture's file."""
    return width * height * (1 if grey else 3)


def _on_grid(edge: str, pixels: float) -> int:
    limit = LIMITS[f"GenerationSettings.{edge}"]
    step = limit.multiple_of or 1
    wanted = round(pixels / step) * step
    return int(min(max(wanted, limit.minimum or step), limit.maximum or wanted))
