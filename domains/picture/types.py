"""Values of input pictures: where one comes from, what it shall become, what became of it, and
what makes a control picture of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from domains.codec import ByteCount, Count, Measure, Sha256, Value
from domains.limits import LIMITS, default_of
from domains.session.types import Edge

MOST_BYTES = 268_435_456
MOST_PIXELS = 67_108_864
MOST_EDGE = 32_768
"""The contract's limits of an input picture, on `InputImage`."""


_Keyword = Annotated[str, Meta(min_length=1, max_length=79, pattern=r"\A[ -~]+\Z")]
_PngText = Annotated[str, Meta(max_length=262_144)]
MOST_METADATA_BYTES = 60_000
"""Of EXIF, and of XMP, that are kept: what a segment of a JPEG has room for."""
MOST_TEXT_BYTES = 262_144
"""Of texts, with their keywords."""


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

    Then it has about as many pixels as the native size, or as the picture where there is none,
    or the shape that goes with the edge that is asked for: within what a generation accepts, on
    its grid. The `whole` picture stays as large as it is.
    """

    width: Edge | None
    height: Edge | None
    native_width: Edge | None = None
    native_height: Edge | None = None
    whole: bool = False

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Width and height for an upright picture of this size."""
        if self.whole:
            return width, height
        shape = width / height
        if self.width is not None and self.height is not None:
            return self.width, self.height
        if self.width is not None:
            return self.width, _on_grid("height", self.width / shape)
        if self.height is not None:
            return _on_grid("width", self.height * shape), self.height
        area = (self.native_width or width) * (self.native_height or height)
        wide, high = math.sqrt(area * shape), math.sqrt(area / shape)
        # The shape counts for more than the number of pixels.
        limit = LIMITS["GenerationSettings.width"]
        least, most = limit.minimum or 1, limit.maximum or math.inf
        scale = min(1.0, most / wide, most / high)
        scale = max(least / wide, least / high, scale)
        return _on_grid("width", wide * scale), _on_grid("height", high * scale)


OWN_SIZE = Canvas(None, None, whole=True)
"""A picture is not resized."""


class PictureMetadata(Value, frozen=True):
    """What a picture's file says beside its pixels, fit for a file of others.

    `exif` begins with "Exif", two zeros and the head of a TIFF; `exif_with_texts` has the
    generation parameters of `texts` as well, as far as there is room. `texts` are a PNG's, by
    keyword. Each is empty where there is none.
    """

    exif: Annotated[bytes, Meta(max_length=MOST_METADATA_BYTES)] = b""
    exif_with_texts: Annotated[bytes, Meta(max_length=MOST_METADATA_BYTES)] = b""
    xmp: Annotated[bytes, Meta(max_length=MOST_METADATA_BYTES)] = b""
    texts: Annotated[tuple[tuple[_Keyword, _PngText], ...], Meta(max_length=4_096)] = ()


class PreparedPicture(Value, frozen=True):
    """Pixels in a file of this server: 8-bit sRGB, red, green, blue, row by row from above,
    and nothing else; of a `grey` one a byte each, of one with `alpha` that behind its blue.
    `sha256` is of that file."""

    path: Path
    width: Edge
    height: Edge
    sha256: Sha256
    grey: bool = False
    alpha: bool = False

    @property
    def size_bytes(self) -> ByteCount:
        """Of the file."""
        return bytes_of(self.width, self.height, grey=self.grey, alpha=self.alpha)


def bytes_of(width: int, height: int, *, grey: bool, alpha: bool = False) -> int:
    """Of a prepared picture's file."""
    return width * height * (1 if grey else 3 + alpha)


class CannyOptions(Value, frozen=True):
    """Thin white edges; `low` and `high` are gradients of the 3x3 Sobel kernels."""

    field: ClassVar[str] = "canny"
    low: Count = int(default_of("CannyOptions.low"))
    high: Count = int(default_of("CannyOptions.high"))


class SoftEdgeOptions(Value, frozen=True):
    """White ridges as wide as a blur of that standard deviation makes an edge."""

    field: ClassVar[str] = "soft_edge"
    radius_pixels: Measure = default_of("SoftEdgeOptions.radius_pixels")


class LineArtOptions(Value, frozen=True):
    """Lines darker than their surroundings by at least `threshold` levels, drawn white."""

    field: ClassVar[str] = "line_art"
    threshold: Count = int(default_of("LineArtOptions.threshold"))


class ScribbleOptions(Value, frozen=True):
    """The coarse edges, drawn white with a stroke of that width."""

    field: ClassVar[str] = "scribble"
    stroke_pixels: Count = int(default_of("ScribbleOptions.stroke_pixels"))


class GreyOptions(Value, frozen=True):
    """Luma alone."""

    field: ClassVar[str] = "grey"


class TileOptions(Value, frozen=True):
    """The picture as `factor` times fewer pixels along an edge show it."""

    field: ClassVar[str] = "tile"
    factor: Count = int(default_of("TileOptions.factor"))


class FaceMaskOptions(Value, frozen=True):
    """White ovals where faces are; `padding` is the share of a face's edges that they reach
    beyond it."""

    field: ClassVar[str] = "face_mask"
    padding: Measure = default_of("FaceMaskOptions.padding")
    blur_pixels: Count = int(default_of("FaceMaskOptions.blur_pixels"))
    least_confidence: Measure = default_of("FaceMaskOptions.least_confidence")


ControlOptions = (
    CannyOptions
    | SoftEdgeOptions
    | LineArtOptions
    | ScribbleOptions
    | GreyOptions
    | TileOptions
    | FaceMaskOptions
)


class ControlPreprocessor(Value, frozen=True):
    """What makes a control picture; `resolution_pixels` is the longer side it works at, 0 the
    picture's own. The options' `field` is theirs in the contract's message."""

    options: ControlOptions
    resolution_pixels: Count = int(default_of("ControlPreprocessor.resolution_pixels"))

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which a picture of this size is looked at."""
        longer = max(width, height)
        if self.resolution_pixels in (0, longer):
            return width, height
        scale = self.resolution_pixels / longer
        return max(round(width * scale), 1), max(round(height * scale), 1)


GREY = ControlPreprocessor(GreyOptions())
"""A picture without its colours, what is transparent white: where a network works."""


def _on_grid(edge: str, pixels: float) -> int:
    limit = LIMITS[f"GenerationSettings.{edge}"]
    step = limit.multiple_of or 1
    wanted = round(pixels / step) * step
    return int(min(max(wanted, limit.minimum or step), limit.maximum or wanted))
