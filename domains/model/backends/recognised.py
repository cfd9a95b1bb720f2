"""What a file is, as far as its header tells."""

from __future__ import annotations

from dataclasses import dataclass

from domains.model.types import Architecture, ModelType, PredictionType


@dataclass(frozen=True)
class Recognised:
    """What a file is; None, empty and 0 where its tensors do not show it.

    Attributes:
        type: What it is for; None where it is of no type that is listed here.
        architecture: The family of networks it is of or goes with.
        kind: What people call its kind ("LoKr", "RRDB", "SSD-1B").
        family: What people call the model family where it is none of `Architecture`.
        prediction: What its denoiser predicts.
        zero_terminal_snr: Whether it adds noise down to none.
        inpainting: Whether its denoiser takes mask and picture as further channels.
        distilled_steps: Steps it was distilled for.
        native_size: Width and height it was trained for, in pixels.
        extra_input: What its denoiser takes beside latents and text, as the rest of a
            sentence; such a model cannot draw from text alone.
        formulation: The way it adds noise where that is none of `PredictionType` ("EDM").
        quantisation: How its weights are quantised ("nf4 (bitsandbytes)").
        lacks: Parts of a checkpoint that the file does not hold, by name.
        trigger_words: Words that bring it out, where its tensors name them.
    """

    type: ModelType | None
    architecture: Architecture | None = None
    kind: str = ""
    family: str = ""
    prediction: PredictionType | None = None
    zero_terminal_snr: bool = False
    inpainting: bool = False
    distilled_steps: int = 0
    native_size: int = 0
    extra_input: str = ""
    formulation: str = ""
    quantisation: str = ""
    lacks: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()
