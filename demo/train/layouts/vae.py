"""The VAE: diffusers' names to those of the original code.

The names come without a prefix (`encoder.`, `decoder.`, `quant_conv.`, `post_quant_conv.`), as
in the VAE files that people exchange (vae-ft-mse-840000-ema-pruned, sdxl_vae). In a whole
checkpoint the same names stand behind `first_stage_model.`.

Source: the reversal of diffusers' `convert_ldm_vae_checkpoint`
(diffusers/loaders/single_file_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RENAMES = (
    (re.compile(r"mid_block\.attentions\.0\."), "mid.attn_1."),
    (re.compile(r"mid_block\.resnets\.0\."), "mid.block_1."),
    (re.compile(r"mid_block\.resnets\.1\."), "mid.block_2."),
    (re.compile(r"down_blocks\.(\d+)\.resnets\.(\d+)\."), r"down.\1.block.\2."),
    (re.compile(r"down_blocks\.(\d+)\.downsamplers\.0\."), r"down.\1.downsample."),
    (re.compile(r"up_blocks\.(\d+)\.resnets\.(\d+)\."), r"up.\1.block.\2."),
    (re.compile(r"up_blocks\.(\d+)\.upsamplers\.0\."), r"up.\1.upsample."),
    (re.compile(r"conv_norm_out\."), "norm_out."),
    (re.compile(r"conv_shortcut\."), "nin_shortcut."),
    (re.compile(r"attn_1\.group_norm\."), "attn_1.norm."),
    (re.compile(r"attn_1\.to_(q|k|v)\."), r"attn_1.\1."),
    (re.compile(r"attn_1\.to_out\.0\."), "attn_1.proj_out."),
)
_UP_BLOCK = re.compile(r"decoder\.up_blocks\.(\d+)\.")
_UP = re.compile(r"decoder\.up\.(\d+)\.")
_PROJECTION = re.compile(r"attn_1\.(q|k|v|proj_out)\.weight")


def original_vae(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a VAE's tensors; projections of the attention become 1x1 convolutions.

    Raises:
        ValueError: A name is none of a VAE.
    """
    ups = [int(match[1]) for match in map(_UP_BLOCK.match, tensors) if match]
    if not ups:
        raise ValueError("These are not the tensors of a VAE.")
    levels = 1 + max(ups)
    result = {}
    for name, tensor in tensors.items():
        theirs = _original(name, levels)
        projects = _PROJECTION.search(theirs) is not None
        result[theirs] = tensor[:, :, None, None] if projects else tensor
    return result


def _original(name: str, levels: int) -> str:
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    if not name.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")):
        raise ValueError(f"{name} is not a tensor of a VAE.")
    # The original counts levels from the picture on both ways.
    return _UP.sub(lambda match: f"decoder.up.{levels - 1 - int(match[1])}.", name)
