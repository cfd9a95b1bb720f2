"""The VAE of SD 1.x and SDXL: its configuration's keys, and the tensors they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.bounds import (
    Config,
    ConfigBounds,
    Flag,
    Many,
    Number,
    OrNull,
    Unused,
    Whole,
    words,
)
from domains.model.backends.families.components import NetworkClass, Tensors
from domains.model.backends.families.unet import ACTIVATIONS, blocks_match, groups_divide

# Each block but one halves the picture; sizes of pictures are multiples of eight pixels.
_MAX_BLOCKS = 4
_COLOURS = 3
_STATISTICS = OrNull(Many(Number(-1e3, 1e3), most=64))


def _statistics_match(config: Mapping[str, Any]) -> str:
    for key in ("latents_mean", "latents_std"):
        values = config.get(key)
        if values is not None and len(values) != config["latent_channels"]:
            return f"has a value of {key} that lists another number of channels"
    return ""


def _tensors(config: Mapping[str, Any]) -> Tensors:
    channels, latents = config["block_out_channels"], config["latent_channels"]
    layers = config.get("layers_per_block", 1)
    yield "encoder.conv_in.weight", (channels[0], _COLOURS, 3, 3)
    yield "encoder.conv_out.weight", (2 * latents, channels[-1], 3, 3)
    yield "decoder.conv_in.weight", (channels[-1], latents, 3, 3)
    yield "decoder.conv_out.weight", (_COLOURS, channels[0], 3, 3)
    for side, outputs, count in (
        ("encoder.down_blocks", channels, layers),
        ("decoder.up_blocks", channels[::-1], layers + 1),
    ):
        for block, output in enumerate(outputs):
            for layer in range(count):
                yield f"{side}.{block}.resnets.{layer}.conv1.weight", (output, None, 3, 3)


def usual_vae(scale: float) -> Config:
    """What is taken for the configuration of the VAE that a model lacks, where nothing says it.

    Args:
        scale: What latents of its family are multiplied by.
    """
    return {
        "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4,
        "scaling_factor": scale,
        "force_upcast": True,
    }


VAE = NetworkClass(
    "diffusers",
    "AutoencoderKL",
    ConfigBounds(
        {
            "act_fn": ACTIVATIONS,
            "block_out_channels": Many(Whole(8, 4096), most=_MAX_BLOCKS),
            "down_block_types": Many(words("DownEncoderBlock2D"), most=_MAX_BLOCKS),
            "force_upcast": Flag(),
            "in_channels": Whole(_COLOURS, _COLOURS),
            "latent_channels": Whole(1, 64),
            "latents_mean": _STATISTICS,
            "latents_std": _STATISTICS,
            "layers_per_block": Whole(1, 8),
            "mid_block_add_attention": Flag(),
            "norm_num_groups": Whole(1, 256),
            "out_channels": Whole(_COLOURS, _COLOURS),
            "quantization_config": Unused(),
            "sample_size": Many(Whole(1, 8192), least=2, most=2, or_one=True),
            "scaling_factor": Number(0, 1e3),
            "shift_factor": OrNull(Number(-1e3, 1e3)),
            "up_block_types": Many(words("UpDecoderBlock2D"), most=_MAX_BLOCKS),
            "use_post_quant_conv": Flag(),
            "use_quant_conv": Flag(),
        },
        required=("latent_channels", "scaling_factor"),
        rules=(blocks_match, groups_divide, _statistics_match),
    ),
    _tensors,
    defaults={"scaling_factor": 0.18215, "force_upcast": True},
)
