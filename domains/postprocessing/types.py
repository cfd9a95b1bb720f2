"""Postprocessing values: what can be applied to finished pictures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median_low
from typing import Annotated

from msgspec import Meta

from domains.chain.jobs import MOST_RUNS
from domains.codec import Count, ModelId, Name, Seconds, Value
from domains.limits import Limit
from domains.values import ByteFigure


class PostprocessorKind(Enum):
    """What a postprocessor does; the value is the id of the built-in one."""

    UPSCALE = "upscale"
    FACE_RESTORE = "face-restore"
    SHARPEN = "sharpen"
    DENOISE = "denoise"
    COLOR = "color"
    RESIZE = "resize"
    CROP = "crop"
    WATERMARK = "watermark"
    SAFETY = "safety"
    CONTROL = "control"
    ROTATE = "rotate"
    PAD = "pad"
    LUT = "lut"
    DEBLUR = "deblur"
    REMOVE_BACKGROUND = "remove-background"


class PostprocessorBenchmark(Value, frozen=True):
    """Figures of a postprocessor on a device: seconds of each run on a square picture with
    edges of `input_pixels`, and the most memory of the device."""

    postprocessor_id: ModelId
    device_id: Name
    input_pixels: Count
    run: Annotated[tuple[Seconds, ...], Meta(max_length=MOST_RUNS)]
    peak_memory: ByteFigure

    @property
    def megapixels_per_second(self) -> float:
        """Of the input, at the median run; 0 where none was timed."""
        seconds = median_low(self.run) if self.run else 0.0
        return self.input_pixels**2 / 1e6 / seconds if seconds else 0.0


@dataclass(frozen=True)
class Postprocessor:
    """What can be applied; `explanation` says why it is not ready, when it is not.

    `model_id` and `architecture` are of the model behind it, `factors` its own enlargements;
    empty where it has none. `limits` are those of its step's fields, `benchmarks` what it took
    where it was measured, the newest first.
    """

    postprocessor_id: str
    kind: PostprocessorKind
    description: str
    ready: bool
    explanation: str = ""
    model_id: str = ""
    factors: tuple[int, ...] = ()
    limits: tuple[Limit, ...] = ()
    architecture: str = ""
    benchmarks: tuple[PostprocessorBenchmark, ...] = ()
