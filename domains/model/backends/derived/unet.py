"""Configurations of UNets and of the ControlNets made from them."""

from __future__ import annotations

from typing import Any

from domains.model.backends.bounds import Config
from domains.model.backends.derived.shapes import Shapes, Told, one_or_all

# Of SD 1.x, whatever its width; later models have heads of one width.
_HEADS, _HEAD_WIDTH = 8, 64
_TIME_WIDTH = 256
_MIDDLE = "mid_block.attentions.0."
_HINT = "controlnet_cond_embedding"


def unet_config(component: str, shapes: Shapes) -> Config:
    """The configuration of a UNet.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE, where a layer is missing that all have.
    """
    told = Told(component, shapes)
    config = _common(told)
    depths = config.pop("depths")
    up = _depths(told, "up_blocks")
    back = _back(depths, up)
    types = ["CrossAttnUpBlock2D" if _attends(counts) else "UpBlock2D" for counts in up]
    return config | {
        "out_channels": told.size("conv_out.weight", 0),
        "up_block_types": types,
        **({"reverse_transformer_layers_per_block": back} if back else {}),
    }


def control_net_config(component: str, shapes: Shapes) -> Config:
    """The configuration of a ControlNet; raises as `unet_config`."""
    told = Told(component, shapes)
    config = _common(told)
    del config["depths"]
    widths = [told.size(f"{_HINT}.conv_in.weight", 0)]
    pairs = told.count(f"{_HINT}.blocks.") // 2
    widths += [told.size(f"{_HINT}.blocks.{2 * pair + 1}.weight", 0) for pair in range(pairs)]
    return config | {
        "conditioning_channels": told.size(f"{_HINT}.conv_in.weight", 1),
        "conditioning_embedding_out_channels": widths,
    }


def union_config(component: str, shapes: Shapes) -> Config:
    """The configuration of a union of ControlNets; raises as `unet_config`."""
    told = Told(component, shapes)
    types = told.size("task_embedding", 0)
    times = told.size("control_add_embedding.linear_1.weight", 1)
    return control_net_config(component, shapes) | {
        "addition_time_embed_dim": times // max(types, 1),
        "num_control_type": types,
        "num_proj_channel": told.size("spatial_ch_projs.weight", 0),
        "num_trans_channel": told.size("task_embedding", 1),
        "num_trans_layer": told.count("transformer_layes."),
    }


def _common(told: Told) -> Config:
    """What both have; `depths` are the transformers behind each resnet on the way down."""
    depths = _depths(told, "down_blocks")
    if not depths:
        raise told.missing("down_blocks.0.resnets.0.conv1.weight")
    channels = [
        told.size(f"down_blocks.{level}.resnets.0.conv1.weight", 0)
        for level in range(len(depths))
    ]
    middle = _layers(told, _MIDDLE)
    linear = len(told.shapes.get(_projection(told), ())) == 2
    config: Config = {
        "in_channels": told.size("conv_in.weight", 1),
        "block_out_channels": channels,
        "layers_per_block": one_or_all([len(counts) for counts in depths]),
        "down_block_types": [
            "CrossAttnDownBlock2D" if _attends(counts) else "DownBlock2D" for counts in depths
        ],
        "transformer_layers_per_block": one_or_all(_wanted(depths, middle)),
        "use_linear_projection": linear,
        "attention_head_dim": (
            [max(width // _HEAD_WIDTH, 1) for width in channels] if linear else _HEADS
        ),
        "depths": depths,
    }
    if middle is None:
        has_middle = told.has("mid_block.")
        config["mid_block_type"] = "UNetMidBlock2D" if has_middle else None
    context = next((shape for name, shape in told.shapes.items() if _reads_text(name)), None)
    if context is not None and len(context) == 2:
        config["cross_attention_dim"] = context[1]
    if told.has("add_embedding."):
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _TIME_WIDTH,
            "projection_class_embeddings_input_dim": told.size(
                "add_embedding.linear_1.weight", 1
            ),
        }
    return config


_Depths = list[list[int | None]]
"""Transformer layers behind each resnet of each level; None where there is no attention."""


def _depths(told: Told, side: str) -> _Depths:
    return [
        [
            _layers(told, f"{side}.{level}.attentions.{layer}.")
            for layer in range(told.count(f"{side}.{level}.resnets."))
        ]
        for level in range(told.count(f"{side}."))
    ]


def _layers(told: Told, place: str) -> int | None:
    """Small ControlNets have attention without a single transformer layer."""
    return told.count(f"{place}transformer_blocks.") if told.has(place) else None


def _attends(counts: list[int | None]) -> bool:
    return any(count is not None for count in counts)


def _wanted(depths: _Depths, middle: int | None) -> list[Any]:
    """A count for each level; the last one's is the middle's too."""
    wanted = [one_or_all(counts) if _attends(counts) else 1 for counts in depths]
    if not _attends(depths[-1]) and middle is not None:
        wanted[-1] = middle
    return wanted


def _back(down: _Depths, up: _Depths) -> list[Any] | None:
    """The levels on the way up, where they are no mirror of those on the way down."""
    counts = [one_or_all(level) if _attends(level) else 1 for level in up]
    mirrored = [one_or_all(level) if _attends(level) else 1 for level in down[::-1]]
    return None if counts == mirrored or len(up) != len(down) else counts


def _projection(told: Told) -> str:
    return next((name for name in told.shapes if name.endswith(".proj_in.weight")), "")


def _reads_text(name: str) -> bool:
    return name.endswith(".attn2.to_k.weight")
