"""Tiny, as the engine runs it: the layer before the last, without the norm behind it."""

from __future__ import annotations

import torch

from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.families.clip_text import ClipReader, EncodedText, most_chunks
from domains.inference.backends.inversions import NO_INVERSIONS, Inversions
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.types import GenerationSettings

_LAYER = 2


def encode_text(
    model: LoadedModel, settings: GenerationSettings, inversions: Inversions = NO_INVERSIONS
) -> EncodedText:
    """See `Family.encode_text`."""
    reader = ClipReader(model, "tokenizer", "text_encoder", inversions, final_norm=False)
    wanted = [settings.prompt]
    if settings.guidance.guided:
        wanted.insert(0, settings.negative_prompt)
    texts = [reader.read(text, settings.prompt_syntax, _LAYER) for text in wanted]
    chunks = most_chunks(texts)
    hidden = torch.cat([reader.joined(text, chunks, _LAYER) for text in texts])
    return EncodedText(
        Conditioning(hidden.to(model.unet_numerics.data_type)),
        cached=not reader.ran,
        lost_tokens=max(text.lost_tokens for text in texts),
    )
