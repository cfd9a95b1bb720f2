"""The UNet of the original code of Stable Diffusion, and the ControlNets made from it.

Names are read and written by the same tables.

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
_FROM_OUTSIDE = {new: original for original, new in _OUTSIDE.items()}
_FROM_RESNET = {new: original for original, new in _RESNET.items()}
_LAYER = re.compile(r"(.+)\.(weight|bias)")
_BLOCK = re.compile(r"(input_blocks|output_blocks)\.(\d{1,3})\.(\d)\.(.+)")
_MIDDLE_BLOCK = re.compile(r"middle_block\.(\d)\.(.+)")
# What a union of ControlNets has beside them, which the original code calls the same.
_UNION = re.compile(
    r"task_embedding|(?:transformer_layes|spatial_ch_projs|control_add_embedding)\..+"
)
_ZERO = re.compile(r"zero_convs\.(\d{1,3})\.0\.(weight|bias)")
_PLACE = re.compile(
    r"((?:down|up)_blocks\.\d+|mid_block)\.(resnets|attentions|(?:down|up)samplers)\.(\d+)\.(.+)"
)

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
        elif _UNION.fullmatch(name):
            known[name] = name
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


def original_unet_names(names: Iterable[str]) -> dict[str, str]:
    """The names of the original for those of folders that are a UNet's."""
    names = list(names)
    places = {match[0]: match for match in map(_PLACE.fullmatch, names) if match}
    numbers = _numbered({f"{m[1]}.{m[2]}.{m[3]}" for m in places.values()})
    known: dict[str, str] = {}
    for name in names:
        layer, match = _LAYER.fullmatch(name), places.get(name)
        if layer and layer[1] in _FROM_OUTSIDE:
            known[name] = f"{_FROM_OUTSIDE[layer[1]]}.{layer[2]}"
        elif match:
            place = f"{match[1]}.{match[2]}.{match[3]}"
            rest = _original_inside(match[2], match[4])
            if place in numbers and rest is not None:
                known[name] = f"{numbers[place]}.{rest}"
    return known


def _numbered(places: set[str]) -> dict[str, str]:
    """What the original calls the resnets, attentions and samplers of these names."""
    numbers = {f"mid_block.{new}": f"middle_block.{part}" for part, new in _MIDDLE.items()}
    # The first block of the way down is `conv_in`.
    block = 1
    for level in range(len(places)):
        for layer in range(len(places)):
            if f"down_blocks.{level}.resnets.{layer}" not in places:
                break
            numbers[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{block}.0"
            numbers[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{block}.1"
            block += 1
        if f"down_blocks.{level}.downsamplers.0" in places:
            numbers[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{block}.0"
            block += 1
    block = 0
    for level in range(len(places)):
        for layer in range(len(places)):
            if f"up_blocks.{level}.resnets.{layer}" not in places:
                break
            numbers[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{block}.0"
            attention = f"up_blocks.{level}.attentions.{layer}"
            numbers[attention] = f"output_blocks.{block}.1"
            behind = 2 if attention in places else 1
            numbers[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{block}.{behind}"
            block += 1
    return numbers


def _original_inside(kind: str, rest: str) -> str | None:
    """A tensor of a block's part, as `_inside` the other way round."""
    layer = _LAYER.fullmatch(rest)
    if kind == "resnets":
        known = layer is not None and layer[1] in _FROM_RESNET
        return f"{_FROM_RESNET[layer[1]]}.{layer[2]}" if layer and known else None
    if kind == "downsamplers" and layer and layer[1] == "conv":
        return f"op.{layer[2]}"
    return rest


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
