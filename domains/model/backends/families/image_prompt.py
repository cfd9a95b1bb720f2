"""IP-Adapters: what a configuration of one would say, and the tensors they ask for.

Nobody writes such a configuration: it is derived from the shapes of a file's tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domains.model.backends.bounds import ConfigBounds, Many, Whole, words
from domains.model.backends.families.components import NetworkClass, Tensors

PLAIN, FULL_FACE, PLUS = "plain", "full-face", "plus"
MOST_LAYERS = 256
_WIDTH = Whole(1, 65536)


def _heads_divide(config: Mapping[str, Any]) -> str:
    """Only the resampler attends."""
    if config["kind"] == PLUS and config["hidden_size"] % config["num_attention_heads"]:
        return "has a hidden_size that its heads do not divide"
    return ""


def _tensors(config: Mapping[str, Any]) -> Tensors:
    text, read = config["cross_attention_dim"], config["embedding_width"]
    if config["kind"] == PLAIN:
        yield "projection.image_embeds.weight", (config["tokens"] * text, read)
    elif config["kind"] == FULL_FACE:
        yield "projection.ff.net.0.proj.weight", (read, read)
    else:
        inner = config["hidden_size"]
        yield "projection.latents", (1, config["tokens"], inner)
        yield "projection.proj_in.weight", (inner, read)
        for layer in range(config["num_hidden_layers"]):
            yield f"projection.layers.{layer}.attn.to_q.weight", (None, inner)
    for number, width in enumerate(config["layer_widths"]):
        yield f"to_keys.{number}.weight", (width, text)
        yield f"to_values.{number}.weight", (width, text)


IMAGE_PROMPT = NetworkClass(
    "ours",
    "ImagePromptAdapter",
    ConfigBounds(
        {
            "kind": words(PLAIN, FULL_FACE, PLUS),
            "cross_attention_dim": _WIDTH,
            "embedding_width": _WIDTH,
            "hidden_size": _WIDTH,
            "layer_widths": Many(_WIDTH, most=MOST_LAYERS),
            "num_attention_heads": Whole(1, 256),
            "num_hidden_layers": Whole(1, 64),
            "tokens": Whole(1, 4096),
        },
        required=("kind", "cross_attention_dim", "embedding_width", "layer_widths", "tokens"),
        rules=(_heads_divide,),
    ),
    _tensors,
)
