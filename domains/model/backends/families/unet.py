"""The UNet of SD 1.x and SDXL: its configuration's keys, and the tensors they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.bounds import (
    ConfigBounds,
    Flag,
    Line,
    Many,
    Number,
    OrNull,
    Unused,
    Whole,
    words,
)
from domains.model.backends.families.components import NetworkClass, Tensors, per_block

ACTIVATIONS = words("silu", "swish", "mish", "gelu", "relu")
MAX_BLOCKS = 8
MAX_EPSILON = 1.0
# Three times those of SDXL, the largest model known; building takes a second then.
_MAX_TRANSFORMERS = 256
_TRANSFORMERS = Whole(0, 32)
_PER_BLOCK = (
    "attention_head_dim",
    "cross_attention_dim",
    "layers_per_block",
    "only_cross_attention",
    "reverse_transformer_layers_per_block",
    "transformer_layers_per_block",
)


def fits_latents(config: Mapping[str, Any], latents: int) -> bool:
    """Whether a UNet makes latents of so many channels of the same; beside them it may take a
    mask, of one channel, and the latents of a picture (`StableDiffusionInpaintPipeline`)."""
    taken = (latents, latents + 1 + latents)
    return config["out_channels"] == latents and config["in_channels"] in taken


def blocks_match(config: Mapping[str, Any]) -> str:
    """Block lists must be of one length, or the network cannot be assembled."""
    lengths = set()
    for key in ("block_out_channels", "down_block_types", "up_block_types"):
        blocks = config.get(key)
        if not isinstance(blocks, list):
            return f"has no usable {key}"
        lengths.add(len(blocks))
    return "" if len(lengths) == 1 else "lists blocks that do not match each other"


def groups_divide(config: Mapping[str, Any]) -> str:
    """Each block's channels are normalised in groups of one size."""
    groups = config.get("norm_num_groups", 32)
    if any(channels % groups for channels in config["block_out_channels"]):
        return "has block_out_channels that its norm_num_groups does not divide"
    return ""


def _kernels_odd(config: Mapping[str, Any]) -> str:
    """An even kernel changes the size of what goes through it."""
    for key in ("conv_in_kernel", "conv_out_kernel"):
        if config.get(key, 3) % 2 == 0:
            return f"has a value of {key} that is even"
    return ""


def _lists_match(config: Mapping[str, Any]) -> str:
    blocks = len(config["block_out_channels"])
    for key in _PER_BLOCK:
        value = config.get(key)
        if isinstance(value, list) and len(value) != blocks:
            return f"has a value of {key} that lists another number of blocks"
    return ""


def _few_transformers(config: Mapping[str, Any]) -> str:
    down, middle, up = _transformers(config)
    counts = [count for block in (*down, *up) for count in block]
    if None in counts:
        return "lists too few transformer layers for its blocks"
    if sum(counts) + middle > _MAX_TRANSFORMERS:
        return f"has more than {_MAX_TRANSFORMERS} transformer layers"
    return ""


def _transformers(config: Mapping[str, Any]) -> tuple[list[list[Any]], int, list[list[Any]]]:
    """Transformer layers behind each layer of each block: down, in the middle, up.

    None stands where a list is too short.
    """
    blocks = len(config["block_out_channels"])
    layers = per_block(config.get("layers_per_block", 2), blocks)
    wanted = per_block(config.get("transformer_layers_per_block", 1), blocks)
    back = config.get("reverse_transformer_layers_per_block") or wanted[::-1]

    def counts(types: list[str], layers: list[int], wanted: list[Any]) -> list[list[Any]]:
        return [
            _spread(each, count) if kind.startswith("CrossAttn") else [0] * count
            for kind, count, each in zip(types, layers, wanted, strict=True)
        ]

    middle = max(_spread(wanted[-1], 1)) if config.get("mid_block_type", True) else 0
    return (
        counts(config["down_block_types"], layers, wanted),
        middle,
        counts(config["up_block_types"], [count + 1 for count in layers[::-1]], back),
    )


def _spread(wanted: Any, layers: int) -> list[Any]:
    """One count for every layer, or a list of counts, of which the first ones are used."""
    if not isinstance(wanted, list):
        return [wanted] * layers
    return [*wanted, *[None] * layers][:layers]


def _tensors(config: Mapping[str, Any]) -> Tensors:
    channels = config["block_out_channels"]
    widths = per_block(config.get("cross_attention_dim", 1280), len(channels))
    kernel_in, kernel_out = (config.get(f"conv_{at}_kernel", 3) for at in ("in", "out"))
    yield "conv_in.weight", (channels[0], config["in_channels"], kernel_in, kernel_in)
    yield "conv_out.weight", (config["out_channels"], channels[0], kernel_out, kernel_out)
    if config.get("mid_block_type", True):
        yield "mid_block.resnets.0.conv1.weight", (channels[-1], channels[-1], 3, 3)
    down, _, up = _transformers(config)
    for side, blocks, outputs, contexts in (
        ("down", down, channels, widths),
        ("up", up, channels[::-1], widths[::-1]),
    ):
        for block, counts in enumerate(blocks):
            for layer, transformers in enumerate(counts):
                place = f"{side}_blocks.{block}"
                yield f"{place}.resnets.{layer}.conv1.weight", (outputs[block], None, 3, 3)
                for number in range(transformers):
                    yield (
                        f"{place}.attentions.{layer}.transformer_blocks.{number}.attn2.to_k.weight",
                        (None, contexts[block]),
                    )


UNET = NetworkClass(
    "diffusers",
    "UNet2DConditionModel",
    ConfigBounds(
        {
            "act_fn": ACTIVATIONS,
            "addition_embed_type": OrNull(Line()),
            "addition_embed_type_num_heads": Whole(1, 1024),
            "addition_time_embed_dim": OrNull(Whole(1, 4096)),
            "attention_head_dim": Many(Whole(1, 1024), or_one=True),
            "attention_type": words("default"),
            "block_out_channels": Many(Whole(8, 8192), most=MAX_BLOCKS),
            "center_input_sample": Flag(),
            "class_embed_type": OrNull(Line()),
            "class_embeddings_concat": Unused(),
            "conv_in_kernel": Whole(1, 7),
            "conv_out_kernel": Whole(1, 7),
            "cross_attention_dim": Many(Whole(1, 16384), or_one=True),
            "cross_attention_norm": OrNull(words("layer_norm", "group_norm")),
            "down_block_types": Many(words("DownBlock2D", "CrossAttnDownBlock2D")),
            "downsample_padding": Whole(0, 1),
            "dropout": Number(0, 1, closed=True),
            "dual_cross_attention": Unused(),
            "encoder_hid_dim": OrNull(Whole(1, 65536)),
            "encoder_hid_dim_type": OrNull(Line()),
            "flip_sin_to_cos": Flag(),
            "freq_shift": Number(0, 1, closed=True),
            "in_channels": Whole(1, 64),
            "layers_per_block": Many(Whole(1, 8), or_one=True),
            "mid_block_only_cross_attention": Flag(),
            "mid_block_scale_factor": Number(0, 1e3),
            "mid_block_type": OrNull(words("UNetMidBlock2DCrossAttn", "UNetMidBlock2D")),
            "norm_eps": Number(0, MAX_EPSILON),
            "norm_num_groups": Whole(1, 256),
            "num_attention_heads": Unused(),
            "num_class_embeds": OrNull(Whole(1, 65536)),
            "only_cross_attention": Many(Flag(), or_one=True),
            "out_channels": Whole(1, 64),
            "projection_class_embeddings_input_dim": OrNull(Whole(1, 65536)),
            "quantization_config": Unused(),
            "resnet_out_scale_factor": Number(0, 1e3),
            "resnet_skip_time_act": Flag(),
            "resnet_time_scale_shift": words("default", "scale_shift"),
            "reverse_transformer_layers_per_block": OrNull(
                Many(Many(_TRANSFORMERS, or_one=True, most=9))
            ),
            "sample_size": OrNull(Many(Whole(1, 2048), least=2, most=2, or_one=True)),
            "time_cond_proj_dim": OrNull(Whole(1, 16384)),
            "time_embedding_act_fn": OrNull(ACTIVATIONS),
            "time_embedding_dim": OrNull(Whole(1, 16384)),
            "time_embedding_type": words("positional", "fourier"),
            "timestep_post_act": OrNull(ACTIVATIONS),
            "transformer_layers_per_block": Many(
                Many(_TRANSFORMERS, or_one=True, most=9), or_one=True
            ),
            "up_block_types": Many(words("UpBlock2D", "CrossAttnUpBlock2D")),
            "upcast_attention": Flag(),
            "use_linear_projection": Flag(),
        },
        required=("in_channels", "out_channels", "sample_size"),
        rules=(blocks_match, groups_divide, _kernels_odd, _lists_match, _few_transformers),
    ),
    _tensors,
)
