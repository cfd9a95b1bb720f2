"""The UNet of the original code of Stable Diffusion, and the ControlNets made from it.

The original numbers its blocks through: a resnet and the transformer behind it are one block,
and so is every down-sampler; an up-sampler belongs to the block before it.

Source: `UNetModel` and `ControlNet` of "ldm" and "sgm"; diffusers'
`convert_ldm_unet_checkpoint` and `convert_controlnet_checkpoint`
(diffusers/loaders/single_file_utils.py), which count blocks by `layers_per_block` where this
follows what is stored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    # Of a ControlNet.
    "middle_block_out.0": "controlnet_mid_block",
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    **{
        f"input_hint_block.{2 * number + 2}": f"controlnet_cond_embedding.blocks.{number}"
        for number in range(6)
    },
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_MIDDLE = {0: "resnets.0", 1: "attentions.0", 2: "resnets.1"}
_LAYER = re.compile(r"(.+)\.(weight|bias)")
_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d{1,3})\.(\d)\.(.+)")
_MIDDLE_BLOCK = re.compile(r"middle_block\.(\d)\.(.+)")
_ZERO = re.compile(r"zero_convs\.(\d{1,3})\.0\.(weight|bias)")

_Parts = dict[int, dict[int, list[str]]]
"""Names behind the numbers of block and part."""


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """The names of folders for those of the original that are a UNet's or a ControlNet's."""
    known: dict[str, str] = {}
    sides: dict[str, _Parts] = {"input_blocks": {}, "output_blocks": {}}
    for name in names:
        layer, zero, middle = _LAYER.fullmatch(name), _ZERO.fullmatch(name), _MIDDLE_BLOCK
        if layer and layer[1] in _OUTSIDE:
            known[name] = f"{_OUTSIDE[layer[1]]}.{layer[2]}"
        elif zero:
            known[name] = f"controlnet_down_blocks.{zero[1]}.{zero[2]}"
        elif match := middle.fullmatch(name):
            place = _MIDDLE.get(int(match[1]))
            new = _inside(f"mid_block.{place}", match[2]) if place else None
            if new is not None:
                known[name] = new
        elif match := _BLOCK.fullmatch(name):
            parts = sides[match[1]].setdefault(int(match[2]), defaultdict(list))
            parts[int(match[3])].append(match[4])
    for side, walk in (("input_blocks", _down), ("output_blocks", _up)):
        for block, part, place in walk(sides[side]):
            for rest in sides[side][block][part]:
                inside = _inside(place, rest)
                if inside is not None:
                    known[f"{side}.{block}.{part}.{rest}"] = inside
    return known


def _down(blocks: _Parts) -> Iterator[tuple[int, int, str]]:
    """Block and part, and what folders call that."""
    level = layer = 0
    for block in sorted(blocks):
        parts = blocks[block]
        if any(rest.startswith("op.") for rest in parts.get(0, ())):
            yield block, 0, f"down_blocks.{level}.downsamplers.0"
            level, layer = level + 1, 0
            continue
        if 0 in parts:
            yield block, 0, f"down_blocks.{level}.resnets.{layer}"
        if 1 in parts:
            yield block, 1, f"down_blocks.{level}.attentions.{layer}"
        layer += 1


def _up(blocks: _Parts) -> Iterator[tuple[int, int, str]]:
    level = layer = 0
    for block in sorted(blocks):
        ends = False
        for part in sorted(blocks[block]):
            if part == 0:
                yield block, part, f"up_blocks.{level}.resnets.{layer}"
            elif any(rest.startswith("conv.") for rest in blocks[block][part]):
                yield block, part, f"up_blocks.{level}.upsamplers.0"
                ends = True
            else:
                yield block, part, f"up_blocks.{level}.attentions.{layer}"
        level, layer = (level + 1, 0) if ends else (level, layer + 1)


def _inside(place: str, rest: str) -> str | None:
    """A tensor of a block's part; transformers have the same names in both."""
    layer = _LAYER.fullmatch(rest)
    if ".resnets." in place:
        if layer is None or layer[1] not in _RESNET:
            return None
        rest = f"{_RESNET[layer[1]]}.{layer[2]}"
    elif layer and layer[1] == "op":
        rest = f"conv.{layer[2]}"
    return f"{place}.{rest}"
