"""Names of diffusers' and transformers' layers as the original (LDM, SGM) files have them.

Written against diffusers' converters, which go the other way; `derive.py` proves each table
by converting it back.
"""

from __future__ import annotations

import re

_UNET_ENDS = (
    ("norm1.", "in_layers.0."),
    ("conv1.", "in_layers.2."),
    ("norm2.", "out_layers.0."),
    ("conv2.", "out_layers.3."),
    ("time_emb_proj.", "emb_layers.1."),
    ("conv_shortcut.", "skip_connection."),
)
_UNET_WHOLE = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "class_embedding.": "label_emb.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
_CONTROL_WHOLE = {
    "controlnet_cond_embedding.conv_in.": "input_hint_block.0.",
    "controlnet_cond_embedding.conv_out.": "input_hint_block.14.",
    "controlnet_mid_block.": "middle_block_out.0.",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)")
_SAMPLER = re.compile(r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv\.(.*)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)")


def unet(name: str, layers: int = 2, attention: frozenset[int] = frozenset()) -> str:
    """A UNet's or ControlNet's layer; `layers` a block, `attention` the up blocks with it."""
    for start, original in (_UNET_WHOLE | _CONTROL_WHOLE).items():
        if name.startswith(start):
            return original + name.removeprefix(start)
    if found := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", name):
        return f"input_hint_block.{2 * int(found[1]) + 2}.{found[2]}"
    if found := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", name):
        return f"zero_convs.{found[1]}.0.{found[2]}"
    if found := _SAMPLER.fullmatch(name):
        block = int(found[2])
        if found[1] == "down":
            return f"input_blocks.{(layers + 1) * (block + 1)}.0.op.{found[3]}"
        place = 2 if block in attention else 1
        return f"output_blocks.{(layers + 1) * block + layers}.{place}.conv.{found[3]}"
    if found := _BLOCK.fullmatch(name):
        block, layer = int(found[2]), int(found[4])
        side = "input" if found[1] == "down" else "output"
        number = (layers + 1) * block + layer + (side == "input")
        place = 0 if found[3] == "resnets" else 1
        return f"{side}_blocks.{number}.{place}.{_ends(found[3], found[5])}"
    if found := _MID.fullmatch(name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_ends(found[1], found[3])}"
    raise ValueError(name)


def vae(name: str, blocks: int = 4) -> str:
    """A VAE's layer."""
    for own, original in (
        (r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block."),
        (r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
        (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
        (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
        (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
        (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
        (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
        (r"conv_norm_out\.", "norm_out."),
        (r"conv_shortcut\.", "nin_shortcut."),
    ):
        name = re.sub(own, original, name)
    if found := re.fullmatch(
        r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)", name
    ):
        level = blocks - 1 - int(found[1])
        if found[2] == "resnets":
            return f"decoder.up.{level}.block.{found[3]}.{found[4]}"
        return f"decoder.up.{level}.upsample.{found[4]}"
    return name


def _ends(part: str, name: str) -> str:
    if part == "attentions":
        return name
    for own, original in _UNET_ENDS:
        if name.startswith(own):
            return original + name.removeprefix(own)
    raise ValueError(name)


def open_clip(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A text encoder of transformers as OpenCLIP has it."""
    names = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
        "text_projection.weight": "text_projection",
    }
    ends = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    found: dict[str, tuple[int, ...]] = {"logit_scale": ()}
    for name, shape in shapes.items():
        layer = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", name)
        if name in names:
            found[names[name]] = shape
        elif layer is not None:
            start = f"transformer.resblocks.{layer[1]}"
            if layer[2] in ends:
                found[f"{start}.{ends[layer[2]]}.{layer[3]}"] = shape
            else:  # q, k and v are one
                found[f"{start}.attn.in_proj_{layer[3]}"] = (3 * shape[0], *shape[1:])
        else:
            raise ValueError(name)
    return found
