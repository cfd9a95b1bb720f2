"""The steps of a chain, one value each, with the contract's defaults filled in.

A step's `field` is its own in the contract's `PostprocessingStep`. What a request can only name
(an upscaler, a picture to put on) is None until it has been looked up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from domains.codec import ByteCount, Count, Measure, ModelId, Value
from domains.limits import default_of
from domains.picture.types import InputImage, PreparedPicture, ResizeFit
from domains.safety import SafetyPolicy
from domains.values import ModelPlace

MOST_STEPS = 16
"""Steps of a chain."""
Size = tuple[int, int]
"""Width and height of a picture in pixels."""
Signed = Annotated[float, Meta(ge=-1e15, le=1e15)]
Fill = Annotated[str, Meta(max_length=9)]
"""A colour, `#RRGGBB` or `#RRGGBBAA`; empty for what is transparent."""
_COLOUR = re.compile("#(?:[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})")


def colour_of(fill: str) -> tuple[int, int, int, int] | None:
    """Red, green, blue and alpha from 0 to 255; None where `fill` is no colour."""
    if fill and not _COLOUR.fullmatch(fill):
        return None
    red, green, blue, *alpha = bytes.fromhex(fill[1:] or "00000000")
    return red, green, blue, alpha[0] if alpha else 255


class UpscalerModel(Value, frozen=True):
    """The upscaler that a step names, and where it lies.

    `factor` is its own enlargement; 0 where only its worker can tell. `size_bytes` are those of
    its file.
    """

    model_id: ModelId
    place: ModelPlace
    factor: Count = 0
    size_bytes: ByteCount = 0


class UpscaleStep(Value, frozen=True):
    """Enlarge with a network, in tiles; 0 `tile_pixels` lets the worker choose by memory."""

    field: ClassVar[str] = "upscale"
    postprocessor_id: ModelId = ""
    factor: Measure = default_of("UpscaleStep.factor")
    tile_pixels: Count = int(default_of("UpscaleStep.tile_pixels"))
    tile_overlap_pixels: Count = int(default_of("UpscaleStep.tile_overlap_pixels"))
    model: UpscalerModel | None = None

    def size_after(self, size: Size) -> Size:
        """Edges times the factor, rounded, halves up."""
        width, height = (max(1, int(edge * self.factor + 0.5)) for edge in size)
        return width, height


class RestorerModel(Value, frozen=True):
    """The face restorer that a step names, and where it lies."""

    model_id: ModelId
    place: ModelPlace


class FaceRestoreStep(Value, frozen=True):
    """Redraw the faces that are found with at least that confidence."""

    field: ClassVar[str] = "face_restore"
    postprocessor_id: ModelId = ""
    strength: Measure = default_of("FaceRestoreStep.strength")
    least_confidence: Measure = default_of("FaceRestoreStep.least_confidence")
    model: RestorerModel | None = None


class SharpenStep(Value, frozen=True):
    """Unsharp mask."""

    field: ClassVar[str] = "sharpen"
    amount: Measure = default_of("SharpenStep.amount")
    radius_pixels: Measure = default_of("SharpenStep.radius_pixels")
    threshold: Count = int(default_of("SharpenStep.threshold"))


class DenoiseMethod(Enum):
    """What counts as like a pixel."""

    BILATERAL = "bilateral"
    NON_LOCAL_MEANS = "non-local-means"


class DenoiseStep(Value, frozen=True):
    """Smooth noise, keep edges."""

    field: ClassVar[str] = "denoise"
    strength: Measure = default_of("DenoiseStep.strength")
    method: DenoiseMethod = DenoiseMethod.BILATERAL


class ColorStep(Value, frozen=True):
    """Colour and tone; 1, of the light 0, leaves a property as it is."""

    field: ClassVar[str] = "color"
    brightness: Measure = default_of("ColorStep.brightness")
    contrast: Measure = default_of("ColorStep.contrast")
    saturation: Measure = default_of("ColorStep.saturation")
    gamma: Measure = default_of("ColorStep.gamma")
    auto_contrast: bool = False
    exposure_stops: Signed = default_of("ColorStep.exposure_stops")
    temperature: Signed = default_of("ColorStep.temperature")
    tint: Signed = default_of("ColorStep.tint")
    auto_white_balance: bool = False


class ResizeFilter(Enum):
    """How pixels are computed at another size."""

    LANCZOS = "lanczos"
    BICUBIC = "bicubic"
    BILINEAR = "bilinear"
    NEAREST = "nearest"
    BOX = "box"
    HAMMING = "hamming"


class ResizeStep(Value, frozen=True):
    """Another size."""

    field: ClassVar[str] = "resize"
    width: Count
    height: Count
    filter: ResizeFilter = ResizeFilter.LANCZOS
    fit: ResizeFit = ResizeFit.STRETCH

    def size_after(self, size: Size) -> Size:
        """That of the step, or as much of it as the picture's shape allows (CONTAIN), rounded,
        at least 1."""
        if self.fit is not ResizeFit.CONTAIN:
            return self.width, self.height
        width, height = size
        # Compared without division, so that the edge that decides is exact.
        if width * self.height >= height * self.width:
            return self.width, min(max(1, round(height * self.width / width)), self.height)
        return min(max(1, round(width * self.height / height)), self.width), self.height


class CropStep(Value, frozen=True):
    """A part of the picture."""

    field: ClassVar[str] = "crop"
    left: Count
    top: Count
    width: Count
    height: Count


class Anchor(Enum):
    """A place on a picture."""

    TOP_LEFT = "top-left"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_RIGHT = "bottom-right"
    CENTER = "center"
    TILED = "tiled"


class WatermarkStep(Value, frozen=True):
    """A visible mark: `text`, or a `picture` where it is empty."""

    field: ClassVar[str] = "watermark"
    text: Annotated[str, Meta(max_length=200)] = ""
    anchor: Anchor = Anchor.BOTTOM_RIGHT
    opacity: Measure = default_of("WatermarkStep.opacity")
    scale: Measure = default_of("WatermarkStep.scale")
    margin_pixels: Count = int(default_of("WatermarkStep.margin_pixels"))
    picture: PreparedPicture | None = None


class RotateStep(Value, frozen=True):
    """Turned clockwise about its middle, on a canvas that holds all of it."""

    field: ClassVar[str] = "rotate"
    degrees: Signed = default_of("RotateStep.degrees")
    mirror: bool = False
    fill: Fill = ""

    @property
    def quarters(self) -> int | None:
        """Quarter turns clockwise, 0 to 3; None where it is no whole number of them."""
        quarters = self.degrees / 90
        return int(quarters) % 4 if quarters.is_integer() else None

    def size_after(self, size: Size) -> Size:
        """Of the least canvas of whole pixels that holds it; what is less than a thousandth
        of a pixel beyond is not counted."""
        if self.quarters is not None:
            return size if self.quarters % 2 == 0 else (size[1], size[0])
        angle = math.radians(self.degrees)
        across, down = abs(math.cos(angle)), abs(math.sin(angle))
        width = math.ceil(size[0] * across + size[1] * down - 1e-3)
        height = math.ceil(size[0] * down + size[1] * across - 1e-3)
        return width, height


class PadMode(Enum):
    """What is put around a picture."""

    FILL = "fill"
    EDGE = "edge"
    REFLECT = "reflect"


class PadStep(Value, frozen=True):
    """More around the picture."""

    field: ClassVar[str] = "pad"
    left: Count = int(default_of("PadStep.left"))
    top: Count = int(default_of("PadStep.top"))
    right: Count = int(default_of("PadStep.right"))
    bottom: Count = int(default_of("PadStep.bottom"))
    mode: PadMode = PadMode.FILL
    fill: Fill = ""

    def size_after(self, size: Size) -> Size:
        """With what is put around."""
        return size[0] + self.left + self.right, size[1] + self.top + self.bottom


class Table(Value, frozen=True):
    """Colours in a file of this server: little-endian float32, red, green, blue of each entry;
    of three dimensions red goes fastest.

    `entries` are those along a dimension; they lie evenly from `low` to `high`, levels as
    shares of 255 for red, green and blue.
    """

    path: Path
    entries: Annotated[int, Meta(ge=2, le=65_536)]
    three_dimensions: bool
    low: tuple[Signed, Signed, Signed]
    high: tuple[Signed, Signed, Signed]

    @property
    def size_bytes(self) -> ByteCount:
        """Of the file."""
        return 12 * self.entries ** (3 if self.three_dimensions else 1)


class LutStep(Value, frozen=True):
    """Colours by a table."""

    field: ClassVar[str] = "lut"
    strength: Measure = default_of("LutStep.strength")
    table: Table | None = None


class DeblurStep(Value, frozen=True):
    """Undo a Gaussian blur."""

    field: ClassVar[str] = "deblur"
    radius_pixels: Measure = default_of("DeblurStep.radius_pixels")
    iterations: Count = int(default_of("DeblurStep.iterations"))


class SafetyStep(Value, frozen=True):
    """A verdict on the picture at this point; an empty `policy_id` means the default one.
    `policy` is the one that it means, once that has been looked up."""

    field: ClassVar[str] = "safety"
    policy_id: ModelId = ""
    policy: SafetyPolicy | None = None


class RemoveBackgroundStep(Value, frozen=True):
    """Make transparent what is no person."""

    field: ClassVar[str] = "remove_background"
    postprocessor_id: ModelId = ""


Step = (
    UpscaleStep
    | FaceRestoreStep
    | SharpenStep
    | DenoiseStep
    | ColorStep
    | ResizeStep
    | CropStep
    | WatermarkStep
    | SafetyStep
    | RotateStep
    | PadStep
    | LutStep
    | DeblurStep
    | RemoveBackgroundStep
)
Steps = Annotated[tuple[Step, ...], Meta(max_length=MOST_STEPS + 1)]
"""With the server's own last one."""


def size_after(step: Step, size: Size) -> Size:
    """Width and height after one step."""
    match step:
        case UpscaleStep() | ResizeStep() | RotateStep() | PadStep():
            return step.size_after(size)
        case CropStep():
            return step.width, step.height
    return size


@dataclass(frozen=True)
class CubeFile:
    """A .cube file as a client names it: its bytes, or an artifact; nothing where it names
    none."""

    inline: bytes | None = None
    artifact_id: str = ""


@dataclass(frozen=True)
class AskedChain:
    """Steps as a client asks for them; `marks` are the pictures that those at these positions
    put on, `cubes` the files of tables, as the client names them."""

    steps: tuple[Step, ...] = ()
    marks: Mapping[int, InputImage] = field(default_factory=dict)
    cubes: Mapping[int, CubeFile] = field(default_factory=dict)
