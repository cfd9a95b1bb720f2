"""The UNet of Stable Diffusion: diffusers' names to those of the original code.

The original numbers its blocks through: every resnet with its transformer is a block, and so
is every down-sampler.

Source: the reversal of diffusers' `convert_ldm_unet_checkpoint`
(diffusers/loaders/single_file_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_OUTSIDE = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.",
    "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}
_RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)"
)
# Resnets of a level on the way down (`layers_per_block`); on the way up there is one more.
_LAYERS = 2


def original_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a UNet's tensors, without `model.diffusion_model.` before them.

    Raises:
        ValueError: A name is none of a UNet with two layers per block.
    """
    names = original_unet_names(tensors)
    return {names[name]: tensor for name, tensor in tensors.items()}


def original_unet_names(names: Iterable[str]) -> dict[str, str]:
    """The original name of each of a UNet's tensors.

    Args:
        names: All names of the UNet: whether a level has attention decides on others.

    Raises:
        ValueError: As `original_unet`.
    """
    names = list(names)
    attended = {
        match[2]
        for match in map(_BLOCK.fullmatch, names)
        if match and match[1] == "up" and match[3] == "attentions"
    }
    return {name: _original(name, attended) for name in names}


def _original(name: str, attended: set[str]) -> str:
    for ours, theirs in _OUTSIDE.items():
        if name.startswith(ours):
            rest = name.removeprefix(ours)
            return theirs + (_in_resnet(rest) if ".resnets." in ours else rest)
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not a tensor of a UNet.")
    direction, level, kind, layer, rest = match.groups()
    place = _place(direction, int(level), kind, int(layer), level in attended)
    return f"{place}.{_inside(kind, rest)}"


def _place(direction: str, level: int, kind: str, layer: int, attended: bool) -> str:
    """The numbered block that a layer of a level is, and the place of its part in it."""
    if direction == "down":
        block = level * (_LAYERS + 1) + 1
        if kind == "downsamplers":
            return f"input_blocks.{block + _LAYERS}.0"
        return f"input_blocks.{block + layer}.{int(kind == 'attentions')}"
    block = level * (_LAYERS + 1)
    if kind == "upsamplers":
        return f"output_blocks.{block + _LAYERS}.{1 + attended}"
    return f"output_blocks.{block + layer}.{int(kind == 'attentions')}"


def _inside(kind: str, rest: str) -> str:
    if kind == "resnets":
        return _in_resnet(rest)
    if kind == "downsamplers":
        return rest.replace("conv.", "op.")
    return rest


def _in_resnet(rest: str) -> str:
    for ours, theirs in _RESNET.items():
        if rest.startswith(ours):
            return theirs + rest.removeprefix(ours)
    raise ValueError(f"{rest} is not a tensor of a resnet.")
