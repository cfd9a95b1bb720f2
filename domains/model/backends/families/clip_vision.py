"""CLIP's image encoders: their configuration's keys, and the tensors they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.bounds import ConfigBounds, Number, OrNull, Unused, Whole, words
from domains.model.backends.families.clip import heads_divide
from domains.model.backends.families.components import NetworkClass, Tensors

# Each attends to all others; the largest that there are have 1,369.
_MOST_PATCHES = 4_096


def _patches_fill(config: Mapping[str, Any]) -> str:
    if config["image_size"] % config["patch_size"]:
        return "has an image_size that its patches do not fill"
    if (config["image_size"] // config["patch_size"]) ** 2 > _MOST_PATCHES:
        return f"cuts a picture into more than {_MOST_PATCHES} patches"
    return ""


def _tensors(config: Mapping[str, Any]) -> Tensors:
    width, patch = config["hidden_size"], config["patch_size"]
    yield "embeddings.patch_embedding.weight", (width, config["num_channels"], patch, patch)
    places = (config["image_size"] // patch) ** 2 + 1
    yield "embeddings.position_embedding.weight", (places, width)
    for layer in range(config["num_hidden_layers"]):
        yield f"encoder.layers.{layer}.mlp.fc1.weight", (config["intermediate_size"], width)
    yield "visual_projection.weight", (config["projection_dim"], width)


CLIP_VISION_PROJECTION = NetworkClass(
    "transformers",
    "CLIPVisionModelWithProjection",
    ConfigBounds(
        {
            "attention_dropout": OrNull(Number(0, 1, closed=True)),
            "hidden_act": words("quick_gelu", "gelu", "gelu_new", "relu", "silu"),
            "hidden_size": Whole(8, 8192),
            "image_size": Whole(16, 1024),
            "initializer_factor": OrNull(Number(0, 1e3, closed=True)),
            "initializer_range": Number(0, 1e3, closed=True),
            "intermediate_size": Whole(8, 65536),
            "layer_norm_eps": Number(0, 1),
            "num_attention_heads": Whole(1, 256),
            "num_channels": Whole(3, 3),
            "num_hidden_layers": Whole(2, 128),
            "patch_size": Whole(2, 256),
            "projection_dim": Whole(1, 16384),
            "quantization_config": Unused(),
        },
        required=("hidden_size", "num_hidden_layers", "num_attention_heads", "projection_dim"),
        rules=(heads_divide, _patches_fill),
    ),
    _tensors,
    defaults={
        "image_size": 224,
        "intermediate_size": 3072,
        "num_channels": 3,
        "patch_size": 32,
    },
)
