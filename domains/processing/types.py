"""Values of sessions: accepted work, its state and its numbered events."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Stages of long work; a session's first event lists those to expect, in order."""

    QUEUED = "queued"
    LOADING_MODEL = "loading-model"
    ENCODING_TEXT = "encoding-text"
    PREPARING_INPUT = "preparing-input"
    DENOISING = "denoising"
    REFINING = "refining"
    DECODING = "decoding"
    POSTPROCESSING = "postprocessing"
    CHECKING_SAFETY = "checking-safety"
    ENCODING_IMAGE = "encoding-image"
