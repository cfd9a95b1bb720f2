"""Configurations of IP-Adapters."""

from __future__ import annotations

from domains.model.backends.bounds import Config
from domains.model.backends.derived.shapes import Shapes, Told
from domains.model.backends.families.image_prompt import FULL_FACE, PLAIN, PLUS

_HEAD_WIDTH = 64
# A full face is all that ViT-L, H or bigG see: 256 patches and what stands for them all.
_FACE_TOKENS = 257


def image_prompt_config(component: str, shapes: Shapes) -> Config:
    """The configuration of an adapter.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE, where a layer is missing that all have.
    """
    told = Told(component, shapes)
    text = told.size("to_keys.0.weight", 1)
    config: Config = {
        "cross_attention_dim": text,
        "layer_widths": [
            told.size(f"to_keys.{number}.weight", 0) for number in range(told.count("to_keys."))
        ],
    }
    if told.has("projection.latents"):
        return config | {
            "kind": PLUS,
            "tokens": told.size("projection.latents", 1),
            "embedding_width": told.size("projection.proj_in.weight", 1),
            "hidden_size": told.size("projection.latents", 2),
            "num_hidden_layers": told.count("projection.layers."),
            "num_attention_heads": max(
                told.size("projection.layers.0.attn.to_q.weight", 0) // _HEAD_WIDTH, 1
            ),
        }
    if told.has("projection.ff."):
        width = told.size("projection.ff.net.0.proj.weight", 1)
        return config | {"kind": FULL_FACE, "tokens": _FACE_TOKENS, "embedding_width": width}
    return config | {
        "kind": PLAIN,
        "tokens": told.size("projection.image_embeds.weight", 0) // max(text, 1),
        "embedding_width": told.size("projection.image_embeds.weight", 1),
    }
