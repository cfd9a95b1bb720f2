"""The VAE of the original code: its names, and attention made of convolutions.

Source: `AutoencoderKL` of "ldm"; diffusers' `convert_ldm_vae_checkpoint`
(diffusers/loaders/single_file_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
_FROM_ATTENTION = {new: original for original, new in _ATTENTION.items()}
_BLOCK = re.compile(r"(encoder|decoder)\.(down|up)\.(\d)\.block\.(\d)\.(.+)")
_SAMPLER = re.compile(r"(encoder\.down|decoder\.up)\.(\d)\.(down|up)sample\.(.+)")
_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.block_([12])\.(.+)")
_ATTENDED = re.compile(r"(encoder|decoder)\.mid\.attn_1\.(\w+)\.(weight|bias)")
_OUTSIDE = re.compile(
    r"((?:encoder|decoder)\.conv_(?:in|out)|quant_conv|post_quant_conv)\.(weight|bias)"
)
_LAYER = re.compile(r"(encoder|decoder)\.(down|up)_blocks\.(\d)\.resnets\.(\d)\.(.+)")
_LEVEL_END = re.compile(r"(encoder\.down|decoder\.up)_blocks\.(\d)\.(down|up)samplers\.0\.(.+)")
_MIDDLE_LAYER = re.compile(r"(encoder|decoder)\.mid_block\.resnets\.([01])\.(.+)")
_MIDDLE_ATTENTION = re.compile(
    r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)"
)
_CONV_NORM_OUT = re.compile(r"(encoder|decoder)\.conv_norm_out\.(weight|bias)")
_NORM_OUT = re.compile(r"(encoder|decoder)\.norm_out\.(weight|bias)")


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """The names of folders for those of the original that are a VAE's."""
    names = list(names)
    levels = [int(match[3]) for match in map(_BLOCK.match, names) if match and match[2] == "up"]
    top = max(levels, default=0)
    found = ((name, _name(name, top)) for name in names)
    return {name: new for name, new in found if new is not None}


def _name(name: str, top: int) -> str | None:
    """The decoder of the original numbers its levels by size, that of folders by order."""
    if match := _BLOCK.fullmatch(name):
        side, way, level, layer, rest = match.groups()
        number = top - int(level) if way == "up" else int(level)
        return f"{side}.{way}_blocks.{number}.resnets.{layer}.{_resnet(rest)}"
    if match := _SAMPLER.fullmatch(name):
        side, level, way, rest = match.groups()
        number = top - int(level) if way == "up" else int(level)
        return f"{side}_blocks.{number}.{way}samplers.0.{rest}"
    if match := _MIDDLE.fullmatch(name):
        return f"{match[1]}.mid_block.resnets.{int(match[2]) - 1}.{_resnet(match[3])}"
    if (match := _ATTENDED.fullmatch(name)) and match[2] in _ATTENTION:
        return f"{match[1]}.mid_block.attentions.0.{_ATTENTION[match[2]]}.{match[3]}"
    if match := _NORM_OUT.fullmatch(name):
        return f"{match[1]}.conv_norm_out.{match[2]}"
    return name if _OUTSIDE.fullmatch(name) else None


def _resnet(rest: str) -> str:
    return rest.replace("nin_shortcut.", "conv_shortcut.")


def original_vae_names(names: Iterable[str]) -> dict[str, str]:
    """The names of the original for those of folders that are a VAE's."""
    names = list(names)
    levels = [int(match[3]) for match in map(_LAYER.match, names) if match and match[2] == "up"]
    top = max(levels, default=0)
    found = ((name, _original_name(name, top)) for name in names)
    return {name: original for name, original in found if original is not None}


def attends(original: str) -> bool:
    """Whether a tensor of the original is a weight that attention multiplies by, which it
    stores as a convolution of one pixel."""
    match = _ATTENDED.fullmatch(original)
    return match is not None and match[2] != "norm" and match[3] == "weight"


def _original_name(name: str, top: int) -> str | None:
    """As `_name`, the other way round."""
    if match := _LAYER.fullmatch(name):
        side, way, level, layer, rest = match.groups()
        number = top - int(level) if way == "up" else int(level)
        return f"{side}.{way}.{number}.block.{layer}.{_original_resnet(rest)}"
    if match := _LEVEL_END.fullmatch(name):
        side, level, way, rest = match.groups()
        number = top - int(level) if way == "up" else int(level)
        return f"{side}.{number}.{way}sample.{rest}"
    if match := _MIDDLE_LAYER.fullmatch(name):
        return f"{match[1]}.mid.block_{int(match[2]) + 1}.{_original_resnet(match[3])}"
    if (match := _MIDDLE_ATTENTION.fullmatch(name)) and match[2] in _FROM_ATTENTION:
        return f"{match[1]}.mid.attn_1.{_FROM_ATTENTION[match[2]]}.{match[3]}"
    if match := _CONV_NORM_OUT.fullmatch(name):
        return f"{match[1]}.norm_out.{match[2]}"
    return name if _OUTSIDE.fullmatch(name) else None


def _original_resnet(rest: str) -> str:
    return rest.replace("conv_shortcut.", "nin_shortcut.")
