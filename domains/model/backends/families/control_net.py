"""ControlNets of UNets, and unions of them: their configuration's keys, and the tensors they
ask for."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from domains.model.backends.bounds import Bound, ConfigBounds, Flag, Many, OrNull, Whole, words
from domains.model.backends.families.components import NetworkClass, Tensors, per_block
from domains.model.backends.families.unet import UNET, groups_divide

_KEYS = (
    *("act_fn", "addition_embed_type", "addition_embed_type_num_heads"),
    *("addition_time_embed_dim", "attention_head_dim", "block_out_channels"),
    *("class_embed_type", "cross_attention_dim", "down_block_types", "downsample_padding"),
    *("encoder_hid_dim", "encoder_hid_dim_type", "flip_sin_to_cos", "freq_shift"),
    *("in_channels", "mid_block_scale_factor", "mid_block_type", "norm_eps"),
    *("norm_num_groups", "num_attention_heads", "num_class_embeds", "only_cross_attention"),
    *("projection_class_embeddings_input_dim", "quantization_config"),
    *("resnet_time_scale_shift", "transformer_layers_per_block", "upcast_attention"),
    "use_linear_projection",
)
# The constructor's own, of a union.
_TYPES, _WIDTH, _HEADS = 6, 320, 8


def _blocks_match(config: Mapping[str, Any]) -> str:
    channels, types = config.get("block_out_channels"), config.get("down_block_types")
    if not isinstance(channels, list) or not isinstance(types, list):
        return "has no usable block_out_channels or down_block_types"
    return "" if len(channels) == len(types) else "lists blocks that do not match each other"


def _heads_divide(config: Mapping[str, Any]) -> str:
    """Each head attends with as many channels as the others."""
    if config.get("num_trans_channel", _WIDTH) % config.get("num_trans_head", _HEADS):
        return "has a num_trans_channel that its num_trans_head does not divide"
    return ""


def _tensors(config: Mapping[str, Any]) -> Tensors:
    channels = config["block_out_channels"]
    yield "conv_in.weight", (channels[0], config["in_channels"], 3, 3)
    layers = per_block(config.get("layers_per_block", 2), len(channels))
    for block, count in enumerate(layers):
        for layer in range(count):
            place = f"down_blocks.{block}.resnets.{layer}.conv1.weight"
            yield place, (channels[block], None, 3, 3)
    for number in range(1 + sum(layers) + len(channels) - 1):
        yield f"controlnet_down_blocks.{number}.weight", (None, None, 1, 1)


def _union_tensors(config: Mapping[str, Any]) -> Tensors:
    yield from _tensors(config)
    types, width = (
        config.get("num_control_type", _TYPES),
        config.get("num_trans_channel", _WIDTH),
    )
    yield "task_embedding", (types, width)
    for number in range(config.get("num_trans_layer", 1)):
        yield f"transformer_layes.{number}.attn.in_proj_weight", (3 * width, width)
    yield "spatial_ch_projs.weight", (config.get("num_proj_channel", _WIDTH), width)
    times = config["addition_time_embed_dim"]
    yield "control_add_embedding.linear_1.weight", (None, types * times)


_BOUNDS: Mapping[str, Bound] = {
    **{key: UNET.bounds.keys[key] for key in _KEYS},
    "conditioning_channels": Whole(1, 64),
    "conditioning_embedding_out_channels": OrNull(Many(Whole(1, 4096), most=8)),
    "controlnet_conditioning_channel_order": words("rgb", "bgr"),
    "global_pool_conditions": Flag(),
    "layers_per_block": Whole(1, 8),
}
_RULES = (_blocks_match, groups_divide)

CONTROL_NET = NetworkClass(
    "diffusers",
    "ControlNetModel",
    ConfigBounds(_BOUNDS, required=("in_channels",), rules=_RULES),
    _tensors,
    defaults={"in_channels": 4},
)

CONTROL_NET_UNION = NetworkClass(
    "diffusers",
    "ControlNetUnionModel",
    ConfigBounds(
        {
            # Its middle always has cross-attention, and no key to say so.
            **{key: bound for key, bound in _BOUNDS.items() if key != "mid_block_type"},
            # No other order is computed.
            "controlnet_conditioning_channel_order": words("rgb"),
            "num_control_type": Whole(1, 64),
            "num_proj_channel": Whole(1, 8192),
            "num_trans_channel": Whole(1, 8192),
            "num_trans_head": Whole(1, 256),
            "num_trans_layer": Whole(1, 32),
        },
        required=("in_channels", "addition_time_embed_dim"),
        rules=(*_RULES, _heads_divide),
    ),
    _union_tensors,
    defaults={"in_channels": 4},
)


def is_union(names: Container[str]) -> bool:
    """Whether a ControlNet's tensors, by the names of either layout, are those of a union."""
    return "task_embedding" in names
