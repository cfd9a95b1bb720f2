"""SD 1.x: the last layer of one text encoder, and nothing beside it.

"High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv:2112.10752); the
order of operations is that of diffusers' `StableDiffusionPipeline`, so that its pictures
come out bit for bit.
"""

from __future__ import annotations

import torch

from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.families.clip_text import (
    ClipReader,
    EncodedText,
    check_clip_skip,
    most_chunks,
)
from domains.inference.backends.inversions import NO_INVERSIONS, Inversions
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.types import GenerationSettings

_TOKENIZER, _ENCODER = "tokenizer", "text_encoder"


def encode_text(
    model: LoadedModel, settings: GenerationSettings, inversions: Inversions = NO_INVERSIONS
) -> EncodedText:
    """See `Family.encode_text`. `clip_skip` applies to the prompt alone."""
    layer = 1 + settings.clip_skip
    check_clip_skip(model, (_ENCODER,), layer)
    # The encoder ends with a norm, which an earlier layer's output has not been through.
    reader = ClipReader(model, _TOKENIZER, _ENCODER, inversions, final_norm=True)
    wanted = [(settings.prompt, layer)]
    if settings.guidance.guided:
        wanted.insert(0, (settings.negative_prompt, 1))
    texts = [reader.read(text, settings.prompt_syntax, layer) for text, layer in wanted]
    chunks = most_chunks(texts)
    hidden = torch.cat(
        [
            reader.joined(text, chunks, layer)
            for text, (_, layer) in zip(texts, wanted, strict=True)
        ]
    )
    return EncodedText(
        Conditioning(hidden.to(model.unet_numerics.data_type)),
        cached=not reader.ran,
        lost_tokens=max(text.lost_tokens for text in texts),
    )
