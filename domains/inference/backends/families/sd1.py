"""SD 1.x: the last layer of one text encoder, and nothing beside it.

"High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv:2112.10752); the
order of operations is that of diffusers' `StableDiffusionPipeline`, so that its pictures
come out bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch

from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.families.clip_text import (
    EncodedText,
    check_clip_skip,
    run_clip,
)
from domains.inference.backends.loaded_model import LoadedModel, TextEmbedding
from domains.inference.types import GenerationSettings

_TOKENIZER, _ENCODER = "tokenizer", "text_encoder"


def encode_text(model: LoadedModel, settings: GenerationSettings) -> EncodedText:
    """See `Family.encode_text`. `clip_skip` applies to the prompt alone."""
    check_clip_skip(model, (_ENCODER,), 1 + settings.clip_skip)
    parts = [_embed(model, settings.prompt, settings.clip_skip)]
    if settings.guidance.guided:
        parts.insert(0, _embed(model, settings.negative_prompt, 0))
    hidden = torch.cat([embedding.hidden_states for embedding, _ in parts])
    return EncodedText(
        Conditioning(hidden.to(model.unet_numerics.data_type)),
        cached=all(cached for _, cached in parts),
        lost_tokens=max(embedding.lost_tokens for embedding, _ in parts),
    )


def _embed(model: LoadedModel, text: str, skipped: int) -> tuple[TextEmbedding, bool]:
    """Embed a text, or find it embedded; also whether it was found."""
    key = (text, skipped)
    found = model.embeddings.get(key)
    if found is not None:
        return found, True
    output = run_clip(
        model, tokenizer=_TOKENIZER, encoder=_ENCODER, text=text, layer=1 + skipped
    )
    # The encoder ends with a norm, which an earlier layer's output has not been through.
    states = _final_norm(model, output.hidden_states) if skipped else output.first
    embedding = TextEmbedding(states, pooled=None, lost_tokens=output.lost_tokens)
    model.embeddings.put(key, embedding)
    return embedding, False


def _final_norm(model: LoadedModel, states: torch.Tensor) -> torch.Tensor:
    encoder: Any = model.networks[_ENCODER]
    # Versions of transformers differ in where it is.
    normed: torch.Tensor = getattr(encoder, "text_model", encoder).final_layer_norm(states)
    return normed
