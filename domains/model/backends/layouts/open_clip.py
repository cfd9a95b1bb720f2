"""A text encoder of OpenCLIP: query, key and value in one tensor, the projection transposed.

Source: `TextTransformer` of open_clip; diffusers' `convert_open_clip_checkpoint`
(diffusers/loaders/single_file_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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
_FROM_OUTSIDE = {new: original for original, new in _OUTSIDE.items()}
_FROM_LAYER = {new: original for original, new in _LAYER.items()}
_FOLDERS_LAYER = re.compile(r"encoder\.layers\.(\d{1,3})\.(.+)\.(weight|bias)")
_OF_THREE = re.compile(r"self_attn\.([qkv])_proj")
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


def original_open_clip(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The tensors of the original by name, and which of a folder's fill each, one below the
    other; the projection is transposed besides."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        match = _FOLDERS_LAYER.fullmatch(name)
        if name in _FROM_OUTSIDE:
            found[_FROM_OUTSIDE[name]] = (name,)
        elif name == f"{_PROJECTION}.weight":
            found[_PROJECTION] = (name,)
        elif match and (part := _OF_THREE.fullmatch(match[2])):
            place = name.replace(part[0], "self_attn.{}_proj")
            together = f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"
            found[together] = tuple(place.format(letter) for letter in "qkv")
        elif match and match[2] in _FROM_LAYER:
            own = _FROM_LAYER[match[2]]
            found[f"transformer.resblocks.{match[1]}.{own}.{match[3]}"] = (name,)
    return found


def is_projection(original: str) -> bool:
    """Whether a tensor of the original is transposed in folders."""
    return original == _PROJECTION


def with_last_layer(tensors: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What `without_last_layer` leaves, with a last layer again, which programs ask for and
    never read: the one before it once more, as kohya-ss/sd-scripts does
    (`convert_text_encoder_state_dict_to_sd_v2`)."""
    numbered = {name: match for name in tensors if (match := _NUMBERED_BLOCK.match(name))}
    last = max((int(match[1]) for match in numbered.values()), default=0)
    again = {
        f"{match[0].replace(match[1], str(last + 1))}{name[match.end() :]}": tensors[name]
        for name, match in numbered.items()
        if int(match[1]) == last
    }
    return {**tensors, **again}


def without_last_layer(tensors: Mapping[str, Origin]) -> dict[str, Origin]:
    """As SD 2.x uses its encoder: what the last layer would make of it is never read."""
    layers = [int(match[1]) for match in map(_NUMBERED.match, tensors) if match]
    last = f"encoder.layers.{max(layers, default=0)}."
    return {
        name: origin
        for name, origin in tensors.items()
        if not name.startswith((last, _PROJECTION))
    }


_NUMBERED_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
_NUMBERED = re.compile(r"encoder\.layers\.(\d+)\.")
