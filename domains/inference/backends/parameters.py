"""The settings of a picture as text, to be stored in its file.

The command line reads both forms back: `server/cli/likeness`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

from msgspec.structs import asdict

from domains.codec import Value
from domains.inference.types import (
    GenerationSettings,
    LoraWeight,
    SecondPass,
    SecondPassUpscale,
    SigmaSpacing,
    resolved,
)
from domains.picture.types import ControlPreprocessor
from domains.values import PartDataType

_FORMAT_VERSION = 3
# How it was asked for and handed out, not what it looks like.
_NOT_OF_THE_PICTURE = ("seed", "seeds", "image_count", "output")
# What the contract has inside its message of this name.
_PRECISION = ("vae_tiling",)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NEEDS_QUOTES = re.compile(r'[,:"]')


def shared_text(settings: GenerationSettings, seed: int) -> str:
    """The form other image programs read: prompt, negative prompt, one line of settings.

    Line breaks and control characters of a prompt become spaces, so that no prompt can
    pass itself off as a setting; `full_text` has the prompt as it was.
    """
    width, height = settings.size
    entries: dict[str, Any] = {
        "Steps": settings.steps,
        "Sampler": resolved(settings.scheduler.scheduler).facts.sampler_name,
    }
    if settings.scheduler.spacing is not SigmaSpacing.MODEL:
        entries["Schedule type"] = settings.scheduler.spacing.value.capitalize()
    entries |= {
        "CFG scale": f"{settings.guidance.scale:g}",
        "Seed": seed,
        "Size": f"{width}x{height}",
        "Model": _quoted(_one_line(settings.model_id)),
    }
    if settings.vae_model_id:
        entries["VAE"] = _quoted(_one_line(settings.vae_model_id))
    if settings.clip_skip:
        entries["Clip skip"] = settings.clip_skip + 1  # they count the last layer as 1
    if settings.start is not None:
        entries["Denoising strength"] = f"{settings.start.strength:g}"
    if settings.inpainting is not None:
        entries["Mask blur"] = settings.inpainting.mask_blur_pixels
    if settings.refiner is not None:
        entries["Refiner"] = _quoted(_one_line(settings.refiner.model_id))
        entries["Refiner switch at"] = f"{settings.refiner.switch_at:g}"
    entries |= _of_second_pass(settings)
    if settings.variation is not None and settings.variation.strength > 0:
        entries["Variation seed"] = settings.variation.seed
        entries["Variation seed strength"] = f"{settings.variation.strength:g}"
    if settings.seamless_horizontally or settings.seamless_vertically:
        entries["Tiling"] = True
    if settings.guidance.rescale > 0:
        entries["CFG rescale"] = f"{settings.guidance.rescale:g}"
    tags = "".join(f" <lora:{_tag(lora)}>" for lora in settings.loras)
    lines = [(_one_line(settings.prompt) + tags).strip()]
    if settings.negative_prompt:
        lines.append(f"Negative prompt: {_one_line(settings.negative_prompt)}")
    lines.append(", ".join(f"{name}: {value}" for name, value in entries.items()))
    return "\n".join(lines)


def _of_second_pass(settings: GenerationSettings) -> dict[str, Any]:
    """What other programs call high-resolution fix."""
    again = settings.second_pass
    if again is None:
        return {}
    strength = "Hires denoising strength" if settings.start else "Denoising strength"
    return {
        strength: f"{again.strength:g}",
        "Hires upscale": f"{again.scale:g}",
        "Hires steps": resolved(again.steps),
        "Hires upscaler": _upscaler(again),
        "Hires CFG Scale": f"{resolved(again.guidance).scale:g}",
    }


def _upscaler(again: SecondPass) -> str:
    match again.upscale:
        case SecondPassUpscale.LATENT:
            return "Latent"
        case SecondPassUpscale.PIXELS:
            return "Lanczos"
        case SecondPassUpscale.MODEL:
            return _quoted(_one_line(again.postprocessor_id))


def full_text(
    settings: GenerationSettings,
    seed: int,
    *,
    data_types: Sequence[PartDataType],
) -> str:
    """Everything needed to draw the picture again, as one JSON object in ASCII: the contract's
    GenerationSettings by its names, enum values without what all of them begin with."""
    entries = asdict(settings)
    for name in _NOT_OF_THE_PICTURE:
        del entries[name]
    inner = {name: entries.pop(name) for name in _PRECISION}
    entries["precision"] = {"mode": entries["precision"], **inner}
    return json.dumps(
        {
            "format_version": _FORMAT_VERSION,
            **entries,
            "seed": seed,
            "data_types": {each.part.value: each.data_type for each in data_types},
        },
        default=_plain,
    )


def _plain(value: object) -> Any:
    if isinstance(value, ControlPreprocessor):
        entries = asdict(value)
        return {value.options.field: entries.pop("options"), **entries}
    if isinstance(value, Value):
        entries = asdict(value)
        options = entries.pop("options", None)
        # The contract has a field for each kind of options, called as they are.
        return entries if options is None else {**entries, _kind_of(options): options}
    if isinstance(value, Enum):
        return value.name.lower()
    raise TypeError(f"no JSON form of {type(value).__name__}")


def _kind_of(options: Value) -> str:
    words = re.findall("[A-Z][a-z0-9]*", type(options).__name__.removesuffix("Options"))
    return "_".join(words).lower()


def _tag(lora: LoraWeight) -> str:
    """A LoRA as AUTOMATIC1111's web UI reads it: the text encoders' weight first."""
    name = re.sub("[:<>]", " ", _one_line(lora.model_id))
    text_encoders = resolved(lora.text_encoder_weight)
    if text_encoders == lora.weight:
        return f"{name}:{lora.weight:g}"
    return f"{name}:{text_encoders:g}:{lora.weight:g}"


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text
