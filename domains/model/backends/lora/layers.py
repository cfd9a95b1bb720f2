"""Names of layers: from those of each trainer to diffusers' own.

kohya's trainers put underscores for dots; of the words that layers are called by, the longest
that fits is taken, so that `to_out_0` is `to_out.0`. SDXL's are often named as the original
checkpoint names them; the way from there is that of diffusers' `lora_conversion_utils.py`, for
the two residual blocks at each size that SD 1.x, 2.x, SDXL and its refiner have.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Layer(NamedTuple):
    """A layer of a model: its network as a diffusers folder calls it, and its name there."""

    network: str
    name: str


UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"
_UNDERSCORED = {
    "lora_unet_": UNET,
    "lycoris_unet_": UNET,
    "lora_te_": TEXT,
    "lora_te1_": TEXT,
    "lora_te2_": TEXT_2,
}
_DOTTED = {
    "unet.": UNET,
    "diffusion_model.": UNET,
    "model.diffusion_model.": UNET,
    "text_encoder.": TEXT,
    "text_encoder_2.": TEXT_2,
    "te1.": TEXT,
    "te2.": TEXT_2,
}
_WRAPPER = "base_model.model."
_WORDS = (
    *("down_blocks", "up_blocks", "mid_block", "attentions", "resnets", "transformer_blocks"),
    *("input_blocks", "output_blocks", "middle_block", "downsamplers", "upsamplers"),
    *("attn1", "attn2", "to_q", "to_k", "to_v", "to_out", "ff", "net", "proj"),
    *("proj_in", "proj_out", "norm", "norm1", "norm2", "norm3", "group_norm"),
    *("conv", "conv1", "conv2", "conv_in", "conv_out", "conv_norm_out", "conv_shortcut"),
    *("time_emb_proj", "time_embedding", "add_embedding", "linear_1", "linear_2"),
    *("time_embed", "label_emb", "in_layers", "out_layers", "emb_layers", "out", "op"),
    *("skip_connection", "text_model", "encoder", "layers", "self_attn", "mlp", "fc1", "fc2"),
    *("q_proj", "k_proj", "v_proj", "out_proj", "layer_norm1", "layer_norm2"),
    *("final_layer_norm", "embeddings", "token_embedding", "position_embedding"),
    *("text_projection", r"\d+"),
)
_WORD = re.compile(f"({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?:_|$)")
_PER_SIZE = 3  # two residual blocks and what changes the size
_INNER = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_OUTER = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)")
_MIDDLE = re.compile(r"middle_block\.([012])\.(.+)")
_TEXT_ATTENTION = re.compile(r"(\.self_attn)\.to_(?:(q|k|v)|(out))$")


def layer(name: str) -> Layer | None:
    """The layer that a file names so; None where no UNet or text encoder has such a name."""
    for prefix, network in _UNDERSCORED.items():
        if name.startswith(prefix):
            dotted = _with_dots(name.removeprefix(prefix))
            return None if dotted is None else _own(network, dotted)
    name = name.removeprefix(_WRAPPER)
    for prefix, network in _DOTTED.items():
        if name.startswith(prefix):
            return _own(network, name.removeprefix(prefix))
    return _own(TEXT if name.startswith("text_model.") else UNET, name)


def _with_dots(name: str) -> str | None:
    words, place = [], 0
    while place < len(name):
        found = _WORD.match(name, place)
        if found is None:
            return None
        words.append(found[1])
        place = found.end()
    return ".".join(words)


def _own(network: str, name: str) -> Layer | None:
    """A layer by its dotted name, which may be an older or the original one."""
    if network != UNET:
        name = _TEXT_ATTENTION.sub(lambda m: f"{m[1]}.{m[2] or m[3]}_proj", name)
        return Layer(network, name)
    name = name.replace(".processor.", ".")
    if name.endswith(".to_out"):
        name += ".0"
    original = _from_original(name)
    return None if original is None else Layer(network, original)


def _from_original(name: str) -> str | None:
    """A UNet's layer; names that are no original ones are left as they are."""
    if name in _OUTER:
        return _OUTER[name]
    if found := _MIDDLE.fullmatch(name):
        number, rest = int(found[1]), found[2]
        if number == 1:
            return f"mid_block.attentions.0.{rest}"
        return _joined(f"mid_block.resnets.{number // 2}", _INNER.get(rest))
    found = _BLOCK.fullmatch(name)
    if found is None:
        return name
    side, number, place, rest = found[1], int(found[2]), int(found[3]), found[4]
    if side == "input":
        block, inner = divmod(number - 1, _PER_SIZE)
        if inner == _PER_SIZE - 1 and rest == "op":
            return f"down_blocks.{block}.downsamplers.0.conv"
        start = f"down_blocks.{block}"
    else:
        block, inner = divmod(number, _PER_SIZE)
        if rest == "conv":
            return f"up_blocks.{block}.upsamplers.0.conv"
        start = f"up_blocks.{block}"
    if place == 1:
        return f"{start}.attentions.{inner}.{rest}"
    return _joined(f"{start}.resnets.{inner}", _INNER.get(rest))


def _joined(start: str, end: str | None) -> str | None:
    return None if end is None else f"{start}.{end}"
