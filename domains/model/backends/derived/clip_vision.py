"""Configurations of CLIP's image encoders."""

from __future__ import annotations

from math import isqrt

from domains.model.backends.bounds import Config
from domains.model.backends.derived.shapes import Shapes, Told

_HEAD_WIDTH = 64
# ViT-L, H and bigG have as many heads, however wide they are.
_HEADS = dict.fromkeys((1024, 1280, 1664), 16)


def clip_vision_config(component: str, shapes: Shapes) -> Config:
    """The configuration of an image encoder, without its activation, which no shape tells.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE, where a layer is missing that all have.
    """
    told = Told(component, shapes)
    width = told.size("embeddings.patch_embedding.weight", 0)
    patch = told.size("embeddings.patch_embedding.weight", 2)
    places = told.size("embeddings.position_embedding.weight", 0)
    return {
        "hidden_size": width,
        "patch_size": patch,
        "image_size": isqrt(max(places - 1, 0)) * patch,
        "num_hidden_layers": told.count("encoder.layers."),
        "intermediate_size": told.size("encoder.layers.0.mlp.fc1.weight", 0),
        "num_attention_heads": _HEADS.get(width, max(width // _HEAD_WIDTH, 1)),
        "projection_dim": told.size("visual_projection.weight", 0),
    }
