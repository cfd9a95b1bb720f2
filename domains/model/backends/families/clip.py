"""CLIP's text encoders: their configuration's keys, and the tensors they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from domains.model.backends.bounds import (
    ConfigBounds,
    Flag,
    Number,
    OrNull,
    Unused,
    Whole,
    words,
)
from domains.model.backends.families.components import NetworkClass, Tensors

MAX_VOCABULARY = 1 << 20
_TOKEN = Whole(-1, MAX_VOCABULARY)


def heads_divide(config: Mapping[str, Any]) -> str:
    """A rule of encoders of texts and of pictures."""
    if config["hidden_size"] % config["num_attention_heads"]:
        return "has a hidden_size that its heads do not divide"
    return ""


def _tensors(config: Mapping[str, Any]) -> Tensors:
    width, inner = config["hidden_size"], config.get("intermediate_size", 2048)
    yield "embeddings.token_embedding.weight", (config["vocab_size"], width)
    yield "embeddings.position_embedding.weight", (config["max_position_embeddings"], width)
    for layer in range(config["num_hidden_layers"]):
        yield f"encoder.layers.{layer}.mlp.fc1.weight", (inner, width)


def _projected(config: Mapping[str, Any]) -> Tensors:
    yield from _tensors(config)
    yield "text_projection.weight", (config["projection_dim"], config["hidden_size"])


CLIP_TEXT = NetworkClass(
    "transformers",
    "CLIPTextModel",
    ConfigBounds(
        {
            "attention_dropout": OrNull(Number(0, 1, closed=True)),
            "bos_token_id": OrNull(_TOKEN),
            "eos_token_id": OrNull(_TOKEN),
            "hidden_act": words("quick_gelu", "gelu", "gelu_new", "relu", "silu"),
            "hidden_size": Whole(8, 8192),
            "initializer_factor": OrNull(Number(0, 1e3, closed=True)),
            "initializer_range": Number(0, 1e3, closed=True),
            "intermediate_size": Whole(8, 65536),
            "layer_norm_eps": Number(0, 1),
            "max_position_embeddings": Whole(2, 4096),
            "num_attention_heads": Whole(1, 256),
            "num_hidden_layers": Whole(1, 64),
            "pad_token_id": OrNull(_TOKEN),
            "projection_dim": Whole(1, 16384),
            "quantization_config": Unused(),
            "use_attention_mask": Flag(),
            "vocab_size": Whole(4, MAX_VOCABULARY),
        },
        required=("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
        rules=(heads_divide,),
    ),
    _tensors,
    defaults={"max_position_embeddings": 77, "projection_dim": 512},
)
CLIP_TEXT_PROJECTION = replace(
    CLIP_TEXT,
    name="CLIPTextModelWithProjection",
    bounds=replace(CLIP_TEXT.bounds, required=(*CLIP_TEXT.bounds.required, "projection_dim")),
    tensors=_projected,
)
