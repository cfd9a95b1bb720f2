"""Files of IP-Adapters, as their makers and all since write them.

Sources: `ip_adapter.py` and `resampler.py` of tencent-ailab/IP-Adapter; the names on our side
are diffusers' (`_convert_ip_adapter_image_proj_to_diffusers`).
"""

from __future__ import annotations

import re

from domains.model.backends.layouts.stored import Stored
from domains.model.backends.model_plan import Origin

_PROJECTION = "image_proj."
_LAYER = re.compile(r"ip_adapter\.(\d{1,4})\.to_([kv])_ip\.weight")
_SIDES = {"k": "to_keys", "v": "to_values"}
# By kind: how its parts begin, and as what.
_PLAIN = {"proj": "image_embeds", "norm": "norm"}
_FULL_FACE = {"proj.0": "ff.net.0.proj", "proj.2": "ff.net.2", "proj.3": "norm"}
_PLUS = {name: name for name in ("proj_in", "proj_out", "norm_out")}
_BLOCK = re.compile(r"layers\.(\d{1,2})\.([01])\.(\w+)(?:\.(weight|bias))?")
_IN_BLOCK = {
    ("0", "norm1"): "ln0",
    ("0", "norm2"): "ln1",
    ("0", "to_q"): "attn.to_q",
    ("0", "to_out"): "attn.to_out.0",
    ("1", "0"): "ff.0",
    ("1", "1"): "ff.1.net.0.proj",
    ("1", "3"): "ff.1.net.2",
}


def image_prompt_tensors(stored: Stored) -> dict[str, Origin]:
    """Where each tensor of an adapter comes from, by the names of `ImagePromptAdapter`; what
    is of no such name is left out."""
    found: dict[str, Origin] = {}
    numbers = sorted(
        {int(match[1]) for match in map(_LAYER.fullmatch, stored.entries) if match}
    )
    for name in stored.entries:
        layer = _LAYER.fullmatch(name)
        if layer is not None:
            # Self-attentions have numbers too, and nothing of the adapter.
            place = numbers.index(int(layer[1]))
            found[f"{_SIDES[layer[2]]}.{place}.weight"] = stored.origin(name)
        elif name.startswith(_PROJECTION):
            own = name.removeprefix(_PROJECTION)
            found |= {
                f"projection.{new}": origin for new, origin in _projected(stored, name, own)
            }
    return found


def _projected(stored: Stored, name: str, own: str) -> list[tuple[str, Origin]]:
    """A tensor of what makes tokens, perhaps in two."""
    if own == "latents":
        return [(own, stored.origin(name))]
    block = _BLOCK.fullmatch(own)
    if block is not None:
        number, half, part, ending = block.groups()
        if (half, part) == ("0", "to_kv"):
            rows = stored.entries[name].shape[0]
            return [
                (
                    f"layers.{number}.attn.{side}.{ending}",
                    stored.origin(name, rows=(rows * k // 2, rows * (k + 1) // 2)),
                )
                for k, side in enumerate(("to_k", "to_v"))
            ]
        new = _IN_BLOCK.get((half, part))
        return [] if new is None else [(f"layers.{number}.{new}.{ending}", stored.origin(name))]
    part, _, ending = own.rpartition(".")
    new = _FULL_FACE.get(part) or _PLAIN.get(part) or _PLUS.get(part)
    return [] if new is None else [(f"{new}.{ending}", stored.origin(name))]
