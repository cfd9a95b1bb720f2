"""Postprocessing values: what can be applied to finished pictures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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


@dataclass(frozen=True)
class Postprocessor:
    """What can be applied; `explanation` says why it is not ready, when it is not."""

    postprocessor_id: str
    kind: PostprocessorKind
    description: str
    ready: bool
    explanation: str = ""
