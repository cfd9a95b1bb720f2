"""UNets of Stable Diffusion, in their original names and in diffusers': which one it is.

What is one family's alone, the family says.
"""

from __future__ import annotations

from dataclasses import replace

from domains.model.backends.families.family import UnetFacts
from domains.model.backends.families.registry import BY_ARCHITECTURE, of_unet
from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.denoisers import DENOISERS
from domains.model.backends.recognition.marks import first_fitting
from domains.model.backends.recognition.tensors import Tensors
from domains.model.types import Architecture, ModelType

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
    return of_unet(cross_attention_width(tensors), vector_width(tensors))


def _unet(tensors: Tensors) -> Recognised:
    facts = _facts(tensors)
    architecture = architecture_of(tensors)
    found = Recognised(ModelType.CHECKPOINT, architecture)
    if architecture is not None:
        found = BY_ARCHITECTURE[architecture].describe_unet(found, facts)
    return _lcm(_channels(found, facts), tensors)


def _channels(found: Recognised, facts: UnetFacts) -> Recognised:
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


def _facts(tensors: Tensors) -> UnetFacts:
    channels = tensors.size("input_blocks.0.0.weight", 1) or tensors.size("conv_in.weight", 1)
    return UnetFacts(
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
        labelled=tensors.has("label_emb.weight"),
    )
