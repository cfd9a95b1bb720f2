"""LoRAs: the names of PEFT to those of the two kinds of file that people have.

The diffusers kind is `unet.<module>.lora_A.weight`; kohya's names say the module with
underscores, and for SDXL they follow the original UNet's numbering.

Source: kohya-ss/sd-scripts, networks/lora.py; diffusers/loaders/lora_conversion_utils.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from demo.train.layouts.unet import original_unet_names

_KOHYA_PREFIX = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
_KOHYA_END = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
_NAME = re.compile(r"(unet|text_encoder|text_encoder_2)\.(.+)\.(lora_[AB]\.weight)")


def peft_lora(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join PEFT's state dicts of a pipeline's parts under the names diffusers stores.

    Args:
        parts: By "unet", "text_encoder", "text_encoder_2": what
            `peft.get_peft_model_state_dict` returns, names ending in `lora_A.weight` [r, in]
            and `lora_B.weight` [out, r], alpha equal to the rank.

    Raises:
        ValueError: A name is none of a LoRA of such a part.
    """
    result = {}
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            module = name.removeprefix("base_model.model.")
            if part != "unet":
                module = f"text_model.{module.removeprefix('text_model.')}"
            _split(f"{part}.{module}")
            result[f"{part}.{module}"] = tensor
    return result


def kohya_lora(
    tensors: Mapping[str, Tensor], *, alpha: float | None = None
) -> dict[str, Tensor]:
    """Rename a LoRA for an SDXL model from the diffusers kind to kohya's.

    Args:
        tensors: Names as `peft_lora` makes them.
        alpha: Written for every module; None writes its rank, which scales by 1.

    Raises:
        ValueError: A name is none of a LoRA.
    """
    pieces = {name: _split(name) for name in tensors}
    weights = {f"{module}.weight" for part, module, _ in pieces.values() if part == "unet"}
    originals = original_unet_names(weights)
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part, module, end = pieces[name]
        if part == "unet":
            module = originals[f"{module}.weight"].removesuffix(".weight")
        stem = f"{_KOHYA_PREFIX[part]}_{module.replace('.', '_')}"
        result[f"{stem}.{_KOHYA_END[end]}"] = tensor
        if end == "lora_A.weight":
            rank = tensor.shape[0]
            result[f"{stem}.alpha"] = torch.tensor(
                float(rank if alpha is None else alpha), dtype=tensor.dtype
            )
    return result


def _split(name: str) -> tuple[str, str, str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not a tensor of a LoRA.")
    return match[1], match[2], match[3]
