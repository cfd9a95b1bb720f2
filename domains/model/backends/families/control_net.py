"""ControlNets of UNets: their configuration's keys, and the tensors they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.bounds import ConfigBounds, Flag, Many, OrNull, Whole, words
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


def _blocks_match(config: Mapping[str, Any]) -> str:
    channels, types = config.get("block_out_channels"), config.get("down_block_types")
    if not isinstance(channels, list) or not isinstance(types, list):
        return "has no usable block_out_channels or down_block_types"
    return "" if len(channels) == len(types) else "lists blocks that do not match each other"


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


CONTROL_NET = NetworkClass(
    "diffusers",
    "ControlNetModel",
    ConfigBounds(
        {
            **{key: UNET.bounds.keys[key] for key in _KEYS},
            "conditioning_channels": Whole(1, 64),
            "conditioning_embedding_out_channels": OrNull(Many(Whole(1, 4096), most=8)),
            "controlnet_conditioning_channel_order": words("rgb", "bgr"),
            "global_pool_conditions": Flag(),
            "layers_per_block": Whole(1, 8),
        },
        required=("in_channels",),
        rules=(_blocks_match, groups_divide),
    ),
    _tensors,
    defaults={"in_channels": 4},
)
