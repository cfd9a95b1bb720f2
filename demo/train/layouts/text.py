"""Text encoders: the names of Transformers to those of the original checkpoints.

The first encoder keeps the names of Transformers. The second is written as OpenCLIP has it:
queries, keys and values fused in one tensor, the projection transposed.

Source: OpenAI's CLIP and OpenCLIP's `TextTransformer`; the reversal of diffusers'
`convert_open_clip_checkpoint` (diffusers/loaders/single_file_utils.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_INSIDE = {
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "self_attn.out_proj.": "attn.out_proj.",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_PROJECTION = "text_projection.weight"
# CLIP's initial temperature. Drawing pictures never reads it, but the files have it.
_LOGIT_SCALE = math.log(1 / 0.07)


def transformers_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names as every version of Transformers stores them: behind `text_model.`."""
    return {f"text_model.{name}": tensor for name, tensor in _bare(tensors).items()}


def open_clip_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse an encoder with projection (`CLIPTextModelWithProjection`).

    Raises:
        ValueError: A name is none of such an encoder, or it has no projection.
    """
    bare = _bare(tensors)
    if _PROJECTION not in bare:
        raise ValueError(f"The text encoder has no {_PROJECTION}.")
    projection = bare.pop(_PROJECTION)
    result = {
        "text_projection": projection.T.contiguous(),
        "logit_scale": torch.tensor(_LOGIT_SCALE, dtype=projection.dtype),
    }
    for name, tensor in bare.items():
        layer = _LAYER.fullmatch(name)
        if layer is None:
            if name not in _OUTSIDE:
                raise ValueError(f"{name} is not a tensor of a CLIP text encoder.")
            result[_OUTSIDE[name]] = tensor
            continue
        block, part = f"transformer.resblocks.{layer[1]}.", layer[2]
        if part.startswith(("self_attn.k_proj.", "self_attn.v_proj.")):
            continue  # fused with the queries
        if part.startswith("self_attn.q_proj."):
            kind = part.rpartition(".")[2]
            three = [bare[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            result[f"{block}attn.in_proj_{kind}"] = torch.cat(three)
            continue
        result[block + _in_layer(part)] = tensor
    return result


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def _in_layer(part: str) -> str:
    for ours, theirs in _INSIDE.items():
        if part.startswith(ours):
            return theirs + part.removeprefix(ours)
    raise ValueError(f"{part} is not a tensor of a CLIP layer.")
