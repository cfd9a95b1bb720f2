"""The steps of a chain, one value each, with the contract's defaults filled in.

A step's `field` is its own in the contract's `PostprocessingStep`. What a request can only name
(an upscaler, a picture to put on) is None until it has been looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
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


class DenoiseStep(Value, frozen=True):
    """Smooth noise, keep edges."""

    field: ClassVar[str] = "denoise"
    strength: Measure = default_of("DenoiseStep.strength")


class ColorStep(Value, frozen=True):
    """Colour and tone; 1 leaves a property as it is."""

    field: ClassVar[str] = "color"
    brightness: Measure = default_of("ColorStep.brightness")
    contrast: Measure = default_of("ColorStep.contrast")
    saturation: Measure = default_of("ColorStep.saturation")
    gamma: Measure = default_of("ColorStep.gamma")
    auto_contrast: bool = False


class ResizeFilter(Enum):
    """How pixels are computed at another size."""

    LANCZOS = "lanczos"
    BICUBIC = "bicubic"
    BILINEAR = "bilinear"
    NEAREST = "nearest"


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
    | RemoveBackgroundStep
)
Steps = Annotated[tuple[Step, ...], Meta(max_length=MOST_STEPS + 1)]
"""With the server's own last one."""


@dataclass(frozen=True)
class AskedChain:
    """Steps as a client asks for them; `marks` are the pictures that those at these positions
    put on, as the client names them."""

    steps: tuple[Step, ...] = ()
    marks: Mapping[int, InputImage] = field(default_factory=dict)
