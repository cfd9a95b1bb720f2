"""Postprocessing values: what can be applied to finished pictures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median_low
from typing import Annotated

from msgspec import Meta

from domains.chain.jobs import MOST_RUNS, PictureQuality
from domains.codec import ModelId, Name, Seconds, Value
from domains.limits import Limit
from domains.session.types import Edge
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
    """Figures of a postprocessor on a device: seconds of each run on a picture of that width
    and height, and the most memory of the device.

    Where there was a reference, `quality` is how near the result comes to it, and `baseline`
    how near the picture does without the postprocessor.
    """

    postprocessor_id: ModelId
    device_id: Name
    input_width: Edge
    input_height: Edge
    run: Annotated[tuple[Seconds, ...], Meta(max_length=MOST_RUNS)]
    peak_memory: ByteFigure
    quality: PictureQuality | None = None
    baseline: PictureQuality | None = None

    @property
    def megapixels_per_second(self) -> float:
        """Of the input, at the median run; 0 where none was timed."""
        seconds = median_low(self.run) if self.run else 0.0
        return self.input_width * self.input_height / 1e6 / seconds if seconds else 0.0


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
