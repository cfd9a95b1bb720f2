"""Configurations of CLIP's text encoders."""

from __future__ import annotations

from domains.model.backends.bounds import Config
from domains.model.backends.derived.shapes import Shapes, Told

_HEAD_WIDTH = 64


def clip_config(component: str, shapes: Shapes) -> Config:
    """The configuration of a text encoder, without its activation, which no shape tells.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE, where a layer is missing that all have.
    """
    told = Told(component, shapes)
    width = told.size("embeddings.token_embedding.weight", 1)
    config: Config = {
        "hidden_size": width,
        "vocab_size": told.size("embeddings.token_embedding.weight", 0),
        "max_position_embeddings": told.size("embeddings.position_embedding.weight", 0),
        "num_hidden_layers": told.count("encoder.layers."),
        "intermediate_size": told.size("encoder.layers.0.mlp.fc1.weight", 0),
        "num_attention_heads": max(width // _HEAD_WIDTH, 1),
    }
    if "text_projection.weight" in shapes:
        config["projection_dim"] = told.size("text_projection.weight", 0)
    return config
