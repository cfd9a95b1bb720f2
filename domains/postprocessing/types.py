"""Postprocessing values: what can be applied to finished pictures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from domains.limits import Limit


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
    """What can be applied; `explanation` says why it is not ready, when it is not.

    `model_id` and `architecture` are of the model behind it, `factors` its own enlargements;
    empty where it has none. `limits` are those of its step's fields.
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
