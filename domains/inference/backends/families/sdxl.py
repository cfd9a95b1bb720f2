"""SDXL: two text encoders, a pooled vector and the picture's size as extra inputs.

"SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis"
(arXiv:2307.01952); the order of operations is that of diffusers'
`StableDiffusionXLPipeline`, so that its pictures come out bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.families.clip_text import (
    EncodedText,
    check_clip_skip,
    run_clip,
)
from domains.inference.backends.loaded_model import LoadedModel, TextEmbedding
from domains.inference.types import (
    ConditioningPoint,
    ConditioningSize,
    GenerationSettings,
    Refiner,
    SdxlSettings,
    SizeConditioning,
    resolved,
)

_ENCODERS = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
# SDXL was trained on the last layer but one.
_LAYER = 2


def encode_text(model: LoadedModel, settings: GenerationSettings) -> EncodedText:
    """See `Family.encode_text`.

    An empty negative prompt becomes zeros where the model's index says so
    (`force_zeros_for_empty_prompt`). `clip_skip` applies to the prompt alone.
    """
    layer = _LAYER + settings.clip_skip
    check_clip_skip(model, tuple(name for _, name in _ENCODERS), layer)
    second = settings.sdxl or SdxlSettings()
    prompt = (settings.prompt, _second(second.prompt_2, settings.prompt))
    negative = (
        settings.negative_prompt,
        _second(second.negative_prompt_2, settings.negative_prompt),
    )
    embed = partial(_embed, model, _ENCODERS)
    return _conditioned(
        model,
        embed,
        prompt,
        negative if settings.guidance.guided else None,
        layer,
        [_time_ids(told, settings.size) for told in _sizes(second)],
    )


def encode_refined_text(
    model: LoadedModel, holder: LoadedModel, settings: GenerationSettings, refiner: Refiner
) -> EncodedText:
    """What steers a refiner's UNet: it has the second text encoder alone, which reads the
    prompt of the first, and is told how good the picture is to look.

    Args:
        model: The refiner.
        holder: Whose text encoder it is: the refiner itself, or the checkpoint before it.
        settings: Texts and size; `clip_skip` applies to the prompt alone.
        refiner: Guidance and scores, resolved.

    Raises:
        InvalidArgument: `clip_skip` leaves no layer to take.
    """
    layer = _LAYER + settings.clip_skip
    check_clip_skip(holder, (_ENCODERS[1][1],), layer)
    guided = resolved(refiner.guidance).guided
    scores = (refiner.negative_aesthetic_score, refiner.aesthetic_score)
    sizes = _sizes(settings.sdxl or SdxlSettings())
    return _conditioned(
        model,
        partial(_embed, holder, _ENCODERS[1:]),
        (settings.prompt,),
        (settings.negative_prompt,) if guided else None,
        layer,
        [
            # It is told the original size and the corner, and the score in the target's place.
            [*_time_ids(told, settings.size)[:4], score]
            for told, score in zip(sizes, scores, strict=True)
        ],
    )


def _conditioned(
    model: LoadedModel,
    embed: Callable[[tuple[str, ...], int], tuple[TextEmbedding, bool]],
    prompt: tuple[str, ...],
    negative: tuple[str, ...] | None,
    layer: int,
    ids: Sequence[Sequence[float]],
) -> EncodedText:
    """Texts for each encoder as the UNet of `model` takes them; the negative one is None
    without guidance. `ids` are the numbers told beside the negative and the other text."""
    positive, cached = embed(prompt, layer)
    parts = [positive]
    if negative is not None:
        if not any(negative) and model.plan.index.get("force_zeros_for_empty_prompt", True):
            parts.insert(0, _zeros_like(positive))
        else:
            embedding, negative_cached = embed(negative, _LAYER)
            parts.insert(0, embedding)
            cached = cached and negative_cached
    time_ids = torch.tensor(ids[-len(parts) :], dtype=torch.float32)
    added = {
        "text_embeds": torch.cat([_pooled(part) for part in parts]).to(torch.float32),
        "time_ids": time_ids.to(model.device),
    }
    hidden = torch.cat([part.hidden_states for part in parts])
    hidden = hidden.to(model.unet_numerics.data_type)
    lost = max(part.lost_tokens for part in parts)
    return EncodedText(Conditioning(hidden, added), cached, lost)


def _sizes(
    asked: SdxlSettings,
) -> tuple[SizeConditioning | None, SizeConditioning | None]:
    """What is said of sizes beside the negative and the other text."""
    return asked.negative_size or asked.size, asked.size


def _time_ids(told: SizeConditioning | None, drawn: tuple[int, int]) -> list[int]:
    """Original size, offset of the crop and target size, each of them down before across.

    Args:
        told: What the request says of them.
        drawn: Width and height of the picture, which those are that it does not say.
    """
    told = told or SizeConditioning()
    usual = ConditioningSize(*drawn)
    original, target = told.original_size or usual, told.target_size or usual
    corner = told.crop_top_left or ConditioningPoint()
    return [
        *(original.height, original.width),
        *(corner.top, corner.left),
        *(target.height, target.width),
    ]


def _second(prompt: str | None, first: str) -> str:
    """What the second encoder reads."""
    return first if prompt is None else prompt


def _embed(
    model: LoadedModel,
    encoders: Sequence[tuple[str, str]],
    texts: tuple[str, ...],
    layer: int,
) -> tuple[TextEmbedding, bool]:
    """Embed a text for each of the last encoders of `model`, or find them embedded; also
    whether they were found."""
    key = (texts, layer)
    found = model.embeddings.get(key)
    if found is not None:
        return found, True
    outputs = [
        run_clip(model, tokenizer=tokenizer, encoder=encoder, text=text, layer=layer)
        for (tokenizer, encoder), text in zip(encoders, texts, strict=True)
    ]
    embedding = TextEmbedding(
        hidden_states=torch.cat([output.hidden_states for output in outputs], dim=-1),
        # Only the second encoder projects its output to one vector.
        pooled=outputs[-1].first,
        lost_tokens=max(output.lost_tokens for output in outputs),
    )
    model.embeddings.put(key, embedding)
    return embedding, False


def _zeros_like(embedding: TextEmbedding) -> TextEmbedding:
    return TextEmbedding(
        torch.zeros_like(embedding.hidden_states), torch.zeros_like(_pooled(embedding))
    )


def _pooled(embedding: TextEmbedding) -> torch.Tensor:
    assert embedding.pooled is not None
    return embedding.pooled
