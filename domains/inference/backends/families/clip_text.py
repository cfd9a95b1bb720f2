"""Text through one CLIP encoder; shared by the families that use CLIP."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.loaded_model import LoadedModel
from domains.model.backends.library_errors import blamed_on


@dataclass(frozen=True)
class EncodedText:
    """Texts ready for the UNet.

    `cached` when no encoder had to run. `lost_tokens` counts tokens of the texts that
    lie beyond the encoders' window and have no effect.
    """

    conditioning: Conditioning
    cached: bool
    lost_tokens: int


@dataclass(frozen=True)
class ClipOutput:
    """`hidden_states` is `[1, tokens, width]`; `first` the encoder's first output."""

    hidden_states: torch.Tensor
    first: torch.Tensor
    lost_tokens: int


def run_clip(
    model: LoadedModel, *, tokenizer: str, encoder: str, text: str, layer: int
) -> ClipOutput:
    """Tokenize `text` to the encoder's window and run it, alone, as a batch of one.

    Args:
        model: Holds both parts by name.
        tokenizer: Its name in the model.
        encoder: Its name in the model.
        text: Cut off where the window (77 tokens for CLIP) is full.
        layer: Which layer's output to take, from the end: 1 is the last.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID when either fails for what it is made of.
    """
    tokenizing = model.tokenizers[tokenizer]
    tokenized = tokenizing.encode(text)
    with blamed_on(encoder, device=model.device):
        output = model.networks[encoder](
            tokenized.ids.to(model.device), output_hidden_states=True
        )
    return ClipOutput(
        hidden_states=output.hidden_states[-layer],
        first=output[0],
        lost_tokens=max(tokenized.wanted - tokenizing.window, 0),
    )


def check_clip_skip(model: LoadedModel, encoders: tuple[str, ...], layer: int) -> None:
    """Refuse to count back further than an encoder has layers.

    Args:
        model: Tells each encoder's number of layers.
        encoders: Their names.
        layer: The layer that would be taken, from the end: 1 is the last.

    Raises:
        InvalidArgument: FIELD_OUT_OF_RANGE on `clip_skip`.
    """
    fewest = min(model.plan_config(name)["num_hidden_layers"] for name in encoders)
    # The embeddings before the first layer count as an output too.
    if layer > fewest + 1:
        message = "clip_skip is greater than this model's text encoders have layers."
        raise InvalidArgument(
            message,
            violations=(FieldViolation("clip_skip", Reason.FIELD_OUT_OF_RANGE, message),),
        )
