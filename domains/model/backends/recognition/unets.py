"""UNets of Stable Diffusion, in their original names and in diffusers': which one it is.

The widths are those of the public configurations (`configs/` of the original repositories,
`config.json` of diffusers'); depths of the distilled ones from their papers' repositories and
`comfy/model_detection.py` of ComfyUI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from domains.model.backends.families.registry import of_attention_width
from domains.model.backends.recognition.denoisers import DENOISERS
from domains.model.backends.recognition.marks import first_fitting
from domains.model.backends.recognition.recognised import Recognised
from domains.model.backends.recognition.tensors import Tensors
from domains.model.types import Architecture, ModelType, PredictionType

EPSILON, V = PredictionType.EPSILON, PredictionType.V_PREDICTION
_SDXL, _SD1, _SD2 = Architecture.SDXL, Architecture.SD1, Architecture.SD2
_SDXL_VECTOR, _REFINER_VECTOR = 2816, 2560
_UNCLIP_VECTORS = frozenset({1536, 2048})

# Channels of latents and what is concatenated to them.
_INPAINTING, _INSTRUCT, _DEPTH, _ENLARGER = 9, 8, 5, 7
_EXTRA_INPUTS = {
    _INPAINTING: "a mask and a picture",
    _INSTRUCT: "a picture to change",
    _DEPTH: "a depth map",
    _ENLARGER: "a small picture",
}
_KIND_OF_CHANNELS = {
    _INPAINTING: "inpainting",
    _INSTRUCT: "instruct-pix2pix",
    _DEPTH: "depth to image",
    _ENLARGER: "x4 upscaler",
}


@dataclass(frozen=True)
class _Facts:
    """A UNet's figures; 0 where there is none.

    `channels` of its input, `width` of its text embeddings, `vector` of its further input,
    `depth` of the last transformer before the middle, `middle` of the one in the middle.
    """

    channels: int
    width: int
    vector: int
    depth: int
    middle: int


# Distilled SDXLs by depth before and in the middle.
_SDXL_KINDS = {
    (4, 0): "SSD-1B",
    (2, 0): "Segmind-Vega",
    (5, 0): "KOALA-700M",
    (6, 6): "KOALA-1B",
}


def is_unet(tensors: Tensors) -> bool:
    """Whether these are the tensors of a UNet, in either naming."""
    original = ("input_blocks.0.0.", "output_blocks.0.", "time_embed.0.")
    diffusers = ("conv_in.weight", "down_blocks.", "up_blocks.", "time_embedding.linear_1.")
    return tensors.has_all(original) or tensors.has_all(diffusers)


def denoiser(tensors: Tensors) -> Recognised | None:
    """What a denoiser is, from its tensors alone; None where it is none that is known."""
    named = first_fitting(DENOISERS, tensors)
    if named is not None:
        return named
    return _unet(tensors) if is_unet(tensors) else None


def cross_attention_width(tensors: Tensors) -> int:
    """Width of the text embeddings that it attends to; 0 where it does not."""
    name = next(tensors.ending("attn2.to_k.weight", "attn2.to_v.weight"), "")
    return tensors.size(name, 1)


def vector_width(tensors: Tensors) -> int:
    """Width of sizes and pooled text, its further input; 0 where it has none."""
    original = tensors.size("label_emb.0.0.weight", 1)
    return original or tensors.size("add_embedding.linear_1.weight", 1)


def architecture_of(tensors: Tensors) -> Architecture | None:
    """The family of a UNet or ControlNet by its widths; None where they are unusual."""
    vector = vector_width(tensors)
    width = cross_attention_width(tensors)
    if width == 1024 and vector in _UNCLIP_VECTORS:
        return _SD2
    # Only SDXL has a further input; its small ControlNets have no cross-attention.
    return _SDXL if vector else of_attention_width(width)


def _unet(tensors: Tensors) -> Recognised:
    facts = _facts(tensors)
    architecture = architecture_of(tensors)
    found = Recognised(ModelType.CHECKPOINT, architecture)
    if facts.vector == _REFINER_VECTOR:
        return replace(
            found,
            type=ModelType.REFINER,
            kind="SDXL refiner",
            prediction=EPSILON,
            native_size=1024,
        )
    if architecture is _SDXL:
        kind = _SDXL_KINDS.get((facts.depth, facts.middle), "")
        real = facts.vector == _SDXL_VECTOR
        found = replace(found, kind=kind, prediction=EPSILON, native_size=1024 if real else 0)
    elif architecture is _SD2:
        found = _sd2(found, facts, tensors)
    elif architecture is _SD1:
        found = replace(found, prediction=EPSILON, native_size=512)
    return _lcm(_channels(found, facts), tensors)


def _sd2(found: Recognised, facts: _Facts, tensors: Tensors) -> Recognised:
    """The same tensors predict noise at 512 and velocity at 768 pixels, but for a few."""
    if facts.vector:
        return replace(
            found,
            kind="unCLIP",
            prediction=V,
            native_size=768,
            extra_input="an image embedding",
        )
    if facts.channels == _ENLARGER or tensors.has("label_emb.weight"):
        return replace(found, prediction=V)
    if facts.channels in (_INPAINTING, _DEPTH):
        return replace(found, prediction=EPSILON, native_size=512)
    return found


def _channels(found: Recognised, facts: _Facts) -> Recognised:
    if facts.channels not in _EXTRA_INPUTS:
        return found
    kind = _KIND_OF_CHANNELS[facts.channels]
    return replace(
        found,
        kind=f"{found.kind} {kind}".strip(),
        inpainting=facts.channels == _INPAINTING,
        extra_input=_EXTRA_INPUTS[facts.channels],
    )


def _lcm(found: Recognised, tensors: Tensors) -> Recognised:
    """Latent consistency models take the guidance as an input of the time embedding."""
    if not tensors.has_any(("time_embedding.cond_proj.", "time_embed.cond_proj.")):
        return found
    return replace(found, kind="LCM", distilled_steps=4, extra_input="the guidance")


def _facts(tensors: Tensors) -> _Facts:
    channels = tensors.size("input_blocks.0.0.weight", 1) or tensors.size("conv_in.weight", 1)
    return _Facts(
        channels,
        cross_attention_width(tensors),
        vector_width(tensors),
        max(
            tensors.count("down_blocks.2.attentions.0.transformer_blocks."),
            tensors.count("input_blocks.7.1.transformer_blocks."),
            tensors.count("input_blocks.5.1.transformer_blocks.")
            if not tensors.has("input_blocks.6.")
            else 0,
        ),
        tensors.count("mid_block.attentions.0.transformer_blocks.")
        or tensors.count("middle_block.1.transformer_blocks."),
    )
