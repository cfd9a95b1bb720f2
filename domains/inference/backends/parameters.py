"""The settings of a picture as text, to be stored in its file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from enum import Enum
from typing import Any

from domains.inference.types import GenerationWork, SigmaSpacing
from domains.values import DataType

_FORMAT_VERSION = 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NEEDS_QUOTES = re.compile(r'[,:"]')


def shared_text(work: GenerationWork, seed: int) -> str:
    """The form other image programs read: prompt, negative prompt, one line of settings.

    Line breaks and control characters of a prompt become spaces, so that no prompt can
    pass itself off as a setting; `full_text` has the prompt as it was.
    """
    settings: dict[str, Any] = {
        "Steps": work.steps,
        "Sampler": work.scheduler.scheduler.facts.sampler_name,
    }
    if work.scheduler.spacing is not SigmaSpacing.MODEL:
        settings["Schedule type"] = work.scheduler.spacing.value.capitalize()
    settings |= {
        "CFG scale": f"{work.guidance_scale:g}",
        "Seed": seed,
        "Size": f"{work.width}x{work.height}",
        "Model": _quoted(_one_line(work.model_id)),
    }
    if work.guidance_rescale > 0:
        settings["CFG rescale"] = f"{work.guidance_rescale:g}"
    lines = [_one_line(work.prompt)]
    if work.negative_prompt:
        lines.append(f"Negative prompt: {_one_line(work.negative_prompt)}")
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(lines)


def full_text(
    work: GenerationWork, seed: int, *, unet_data_type: DataType, vae_data_type: DataType
) -> str:
    """Everything needed to draw the picture again, as one JSON object in ASCII.

    The model's place on disk is left out: a picture is passed on to others.
    """
    settings = asdict(work)
    for name in ("model_path", "seeds", "preview", "output"):
        del settings[name]
    return json.dumps(
        {
            "format_version": _FORMAT_VERSION,
            **settings,
            "seed": seed,
            "unet_data_type": unet_data_type,
            "vae_data_type": vae_data_type,
        },
        default=_plain,
    )


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"no JSON form of {type(value).__name__}")


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text
