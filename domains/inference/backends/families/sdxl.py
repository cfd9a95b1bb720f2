"""SDXL: two text encoders, a pooled vector and the picture's size as extra inputs.

"SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis"
(arXiv:2307.01952); the order of operations is that of diffusers'
`StableDiffusionXLPipeline`, so that its pictures come out bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.families.clip_text import (
    ClipReader,
    ClipText,
    EncodedText,
    check_clip_skip,
    most_chunks,
)
from domains.inference.backends.inversions import NO_INVERSIONS, Inversions
from domains.inference.backends.loaded_model import LoadedModel
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


def encode_text(
    model: LoadedModel, settings: GenerationSettings, inversions: Inversions = NO_INVERSIONS
) -> EncodedText:
    """See `Family.encode_text`.

    An empty negative prompt becomes zeros where the model's index says so
    (`force_zeros_for_empty_prompt`). `clip_skip` applies to the prompt alone.
    """
    layer = _LAYER + settings.clip_skip
    check_clip_skip(model, tuple(name for _, name in _ENCODERS), layer)
    own = settings.sdxl or SdxlSettings()
    return _conditioned(
        model,
        [ClipReader(model, *names, inversions, final_norm=False) for names in _ENCODERS],
        settings,
        prompt=(settings.prompt, own.prompt_2),
        negative=(settings.negative_prompt, own.negative_prompt_2),
        guided=settings.guidance.guided,
        told=[_time_ids(size, settings.size) for size in _sizes(own)],
    )


def encode_refined_text(
    model: LoadedModel,
    holder: LoadedModel,
    settings: GenerationSettings,
    refiner: Refiner,
    inversions: Inversions,
) -> EncodedText:
    """What steers a refiner's UNet: it has the second text encoder alone, which reads the
    prompt of the first, and is told how good the picture is to look.

    Args:
        model: The refiner.
        holder: Whose text encoder it is: the refiner itself, or the checkpoint before it.
        settings: Texts and size; `clip_skip` applies to the prompt alone.
        refiner: Guidance and scores, resolved.
        inversions: Words that stand for vectors of their own.

    Raises:
        InvalidArgument: `clip_skip` leaves no layer to take.
    """
    names, sizes = _ENCODERS[1], _sizes(settings.sdxl or SdxlSettings())
    check_clip_skip(holder, names[1:], _LAYER + settings.clip_skip)
    scores = (refiner.negative_aesthetic_score, refiner.aesthetic_score)
    return _conditioned(
        model,
        [ClipReader(holder, *names, inversions, final_norm=False)],
        settings,
        prompt=(settings.prompt,),
        negative=(settings.negative_prompt,),
        guided=resolved(refiner.guidance).guided,
        told=[
            # It is told the original size and the corner, and the score in the target's place.
            [*_time_ids(size, settings.size)[:4], score]
            for size, score in zip(sizes, scores, strict=True)
        ],
    )


def _conditioned(
    model: LoadedModel,
    readers: Sequence[ClipReader],
    settings: GenerationSettings,
    *,
    prompt: Sequence[str | None],
    negative: Sequence[str | None],
    guided: bool,
    told: Sequence[Sequence[float]],
) -> EncodedText:
    """Texts as the UNet of `model` takes them.

    Args:
        model: Whose UNet.
        readers: The encoders.
        settings: How texts are read.
        prompt: For each encoder; None is the first one's.
        negative: The same.
        guided: Whether the negative one is read.
        told: The numbers beside the negative and the other text.
    """
    layer = _LAYER + settings.clip_skip

    def read(texts: Sequence[str | None], layer: int) -> list[ClipText]:
        return [
            reader.read(
                (texts[0] if text is None else text) or "", settings.prompt_syntax, layer
            )
            for reader, text in zip(readers, texts, strict=True)
        ]

    wanted = [(read(prompt, layer), layer)]
    zeros = not any(negative) and model.plan.index.get("force_zeros_for_empty_prompt", True)
    if guided and not zeros:
        wanted.insert(0, (read(negative, _LAYER), _LAYER))
    chunks = most_chunks(text for texts, _ in wanted for text in texts)
    hidden = [
        torch.cat(
            [
                reader.joined(text, chunks, layer)
                for reader, text in zip(readers, texts, strict=True)
            ],
            dim=-1,
        )
        for texts, layer in wanted
    ]
    pooled = [_pooled(texts) for texts, _ in wanted]
    if guided and zeros:
        hidden.insert(0, torch.zeros_like(hidden[0]))
        pooled.insert(0, torch.zeros_like(pooled[0]))
    added = {
        "text_embeds": torch.cat(pooled).to(torch.float32),
        "time_ids": torch.tensor(told[-len(pooled) :], dtype=torch.float32).to(model.device),
    }
    return EncodedText(
        Conditioning(torch.cat(hidden).to(model.unet_numerics.data_type), added),
        cached=not any(reader.ran for reader in readers),
        lost_tokens=max(text.lost_tokens for texts, _ in wanted for text in texts),
    )


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


def _pooled(texts: list[ClipText]) -> torch.Tensor:
    """What the second encoder makes of a whole prompt; only it does."""
    pooled = texts[-1].pooled
    assert pooled is not None
    return pooled
