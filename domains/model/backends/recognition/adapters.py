"""LoRAs and their relatives: which algorithm, and which family they were trained on."""

from __future__ import annotations

import re
from collections import Counter

from domains.model.backends.families.registry import (
    BY_ARCHITECTURE,
    marked,
    of_attention_width,
    of_lora_layers,
    of_lora_text_width,
)
from domains.model.backends.lora.endings import Algorithm, Piece, piece
from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.tensors import Tensors
from domains.model.types import Architecture, ModelType

_FLUX, _SD3 = Architecture.FLUX, Architecture.SD3
# Of all tensors; trainers leave some of their own in the file.
_LEAST_SHARE = 0.3
# More than any honest one has; the rest of a file that has more is not looked through.
_MOST_LAYERS = 4_096
_LONGEST_NAME = 256

# Layers of transformers, which are no UNet's: the first pattern that is found says whose.
_FAMILIES: tuple[tuple[re.Pattern[str], Architecture | None, str], ...] = (
    (re.compile(r"individual_token_refiner|double_blocks[._]19|single_blocks[._]39"), None,
     "HunyuanVideo"),
    (re.compile(r"single_transformer_blocks|single_blocks[._]|double_blocks[._]"), _FLUX, ""),
    (re.compile(r"[._]img_mlp[._]|[._]txt_mlp[._]"), None, "Qwen-Image"),
    (re.compile(r"joint_transformer_blocks|double_layers[._]"), None, "AuraFlow"),
    (re.compile(r"joint_blocks[._]|attn[._]add_[kqv]_proj"), _SD3, ""),
    (re.compile(r"(^|[._])blocks[._]\d+[._](self|cross)_attn[._][qkvo]([._]|$)"), None, "Wan"),
    (re.compile(r"layers[._]\d+[._]attention[._](qkv|to_q|out)"), None, "Lumina or Z-Image"),
    (re.compile(r"motion_modules|temporal_transformer"), None, "AnimateDiff"),
    (re.compile(r"^lora_prior_unet_"), None, "Stable Cascade"),
    (re.compile(r"^(transformer|diffusion_model)\.transformer_blocks\."), None,
     "a transformer"),
)  # fmt: skip
_CROSS = re.compile(r"attn2([._]processor)?[._]to_[kv]$")
_TEXT = re.compile(r"(^|[._])self_attn[._][kqv]_proj$")


def adapter(tensors: Tensors) -> Recognised | None:
    """What a LoRA is; None where the file is none."""
    pieces = {name: found for name in tensors if (found := piece(name)) is not None}
    told = [found for found in pieces.values() if found.algorithm is not None]
    if not told or len(pieces) < _LEAST_SHARE * len(tensors):
        return None
    own = {p.layer for p in pieces.values() if len(p.layer) <= _LONGEST_NAME}
    layers = sorted(own)[:_MOST_LAYERS]
    architecture, family, refines = _made_for(tensors, pieces, layers)
    kind = _kind(pieces, tensors)
    return Recognised(
        ModelType.LORA,
        architecture,
        f"{kind} for the refiner" if refines else kind,
        family,
    )


def _kind(pieces: dict[str, Piece], tensors: Tensors) -> str:
    """The algorithm of most layers, with what belongs to its name."""
    algorithms = Counter(p.algorithm for p in pieces.values() if p.algorithm is not None)
    algorithm = algorithms.most_common(1)[0][0]
    blocks = (len(tensors.shapes[n]) for n, p in pieces.items() if p.part == "blocks")
    if algorithm is Algorithm.OFT and next(blocks, 0) == 4:
        algorithm = Algorithm.BOFT  # one more dimension: factors
    kind = algorithm.value
    if algorithm is Algorithm.LORA and any(
        p.part == "down" and len(tensors.shapes[n]) == 4 and tensors.shapes[n][2] > 1
        for n, p in pieces.items()
    ):
        kind = "LoCon"
    if any(p.part == "magnitude" for p in pieces.values()):
        kind = "DoRA" if algorithm is Algorithm.LORA else f"{kind} with DoRA"
    return kind


def _made_for(
    tensors: Tensors, pieces: dict[str, Piece], layers: list[str]
) -> tuple[Architecture | None, str, bool]:
    """Architecture, family where that is none of ours, whether it is for the refiner."""
    for pattern, architecture, family in _FAMILIES:
        if any(map(pattern.search, layers)):
            return architecture, family, False
    widths = _widths(tensors, pieces, _CROSS)
    for width in widths:
        architecture = of_attention_width(width)
        if architecture is not None:
            second = marked(ModelType.LORA, layers) is not None
            refiners = BY_ARCHITECTURE[architecture].refiner_width
            return architecture, "", width == refiners and not second
    shown = marked(ModelType.LORA, layers) or of_lora_layers(layers)
    if shown is None:
        told = map(of_lora_text_width, _widths(tensors, pieces, _TEXT))
        shown = next(filter(None, told), None)
    return shown, "", False


def _widths(tensors: Tensors, pieces: dict[str, Piece], layer: re.Pattern[str]) -> list[int]:
    """Input widths of the layers that fit a pattern, as their changes show them."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, found in pieces.items():
        if layer.search(found.layer):
            shapes.setdefault(found.layer, {})[found.part] = tensors.shapes[name]
    return sorted({width for parts in shapes.values() if (width := input_width(parts))})


def input_width(parts: dict[str, tuple[int, ...]]) -> int:
    """How many numbers a layer takes, from the shapes of its change; 0 if they do not tell."""

    def second(*names: str) -> int:
        shapes = (parts.get(name, ()) for name in names)
        return next((shape[1] for shape in shapes if len(shape) >= 2), 0)

    factors = second("lokr_w1", "lokr_w1_b"), second("lokr_w2", "lokr_w2_b")
    if all(factors):
        return factors[0] * factors[1]
    if "b1" in parts:
        return max(parts["b1"][:2], default=0)
    return second("down", "hada_w1_b", "diff")
