"""A text encoder of OpenCLIP: query, key and value in one tensor, the projection transposed.

Source: `TextTransformer` of open_clip; diffusers' `convert_open_clip_checkpoint`
(diffusers/loaders/single_file_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from domains.model.backends.layouts.stored import Stored
from domains.model.backends.model_plan import Origin

_OUTSIDE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d{1,3})\.(.+)\.(weight|bias)")
_TOGETHER = re.compile(r"transformer\.resblocks\.(\d{1,3})\.attn\.in_proj_(weight|bias)")
_PROJECTION = "text_projection"
# The mask is computed, the other is for comparing with pictures.
EXTRAS = frozenset({"attn_mask", "logit_scale"})


def open_clip_tensors(stored: Stored) -> dict[str, Origin]:
    """Where each tensor of a text encoder comes from, by the name that folders have for it."""
    found: dict[str, Origin] = {}
    for name, shape in stored.shapes.items():
        if name in _OUTSIDE:
            found[_OUTSIDE[name]] = stored.origin(name)
        elif name == _PROJECTION and len(shape) == 2:
            found["text_projection.weight"] = stored.origin(name, transposed=True)
        elif (match := _TOGETHER.fullmatch(name)) and shape[0] % 3 == 0:
            width = shape[0] // 3
            for number, part in enumerate("qkv"):
                rows = (number * width, number * width + width)
                place = f"encoder.layers.{match[1]}.self_attn.{part}_proj.{match[2]}"
                found[place] = stored.origin(name, rows=rows)
        elif (match := _BLOCK.fullmatch(name)) and match[2] in _LAYER:
            place = f"encoder.layers.{match[1]}.{_LAYER[match[2]]}.{match[3]}"
            found[place] = stored.origin(name)
    return found


def without_last_layer(tensors: Mapping[str, Origin]) -> dict[str, Origin]:
    """As SD 2.x uses its encoder: what the last layer would make of it is never read."""
    layers = [int(match[1]) for match in map(_NUMBERED.match, tensors) if match]
    last = f"encoder.layers.{max(layers, default=0)}."
    return {
        name: origin
        for name, origin in tensors.items()
        if not name.startswith((last, _PROJECTION))
    }


_NUMBERED = re.compile(r"encoder\.layers\.(\d+)\.")
