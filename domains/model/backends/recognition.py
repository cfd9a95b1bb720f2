"""What a single safetensors file is, from the names and shapes of its tensors.

File names are what people make of them; tensor names are what programs read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from domains.model.types import Architecture, ModelType

Shapes = dict[str, tuple[int, ...]]

# Width of the text embeddings that a UNet's cross-attention reads.
_TEXT_WIDTHS = {2048: Architecture.SDXL, 1280: Architecture.SDXL, 768: Architecture.SD1}
_CROSS_ATTENTION = re.compile(r"attn2[._]to_[kv][._](weight|lora_down|lora_A|lora\.down)")
_LORA = re.compile(
    r"(lora_(down|up|A|B)\b|lora\.(down|up)\.|hada_w[12]_[ab]|lokr_w[12]|\.dora_scale)"
)
_WRAPPED = re.compile(r"^params(_ema)?\.")
_UPSCALER = re.compile(
    r"(conv_first\.weight|RRDB_trunk\.|body\.\d+\.(rdb1|residual_group)|model\.1\.sub\.)"
)


@dataclass(frozen=True)
class Recognised:
    """What a file is; None where its tensors do not tell."""

    type: ModelType | None
    architecture: Architecture | None = None


def recognise(shapes: Shapes) -> Recognised:
    """Tell type and architecture from tensor names and shapes.

    The order matters: a LoRA names the layers of the UNet that it changes.
    """
    for test, answer in _TESTS:
        if test(shapes):
            return answer(shapes)
    return Recognised(None)


def _any(names: Iterable[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in names)


def _all(names: Iterable[str], *prefixes: str) -> bool:
    return all(name.startswith(prefixes) for name in names)


def _is_lora(shapes: Shapes) -> bool:
    return any(_LORA.search(name) for name in shapes)


def _lora(shapes: Shapes) -> Recognised:
    if any("lora_te2_" in name or "text_encoder_2." in name for name in shapes):
        return Recognised(ModelType.LORA, Architecture.SDXL)
    return Recognised(ModelType.LORA, _by_cross_attention(shapes))


def _is_control_net(shapes: Shapes) -> bool:
    marks = ("control_model.", "controlnet_cond_embedding.", "input_hint_block.")
    return _any(shapes, *marks, "controlnet_mid_block.")


def _control_net(shapes: Shapes) -> Recognised:
    if "add_embedding.linear_1.weight" in shapes:
        # Sizes and pooled text, which SDXL adds; the small ones have no cross-attention.
        return Recognised(ModelType.CONTROL_NET, Architecture.SDXL)
    return Recognised(ModelType.CONTROL_NET, _by_cross_attention(shapes))


def _is_checkpoint(shapes: Shapes) -> bool:
    return _any(shapes, "model.diffusion_model.")


def _checkpoint(shapes: Shapes) -> Recognised:
    if _any(shapes, "conditioner.embedders.0.model."):
        # Its only text encoder is the one that is the second elsewhere.
        return Recognised(ModelType.REFINER, Architecture.SDXL)
    # Where a text encoder is kept tells more than its width, which may be any.
    if _any(shapes, "conditioner.embedders.1."):
        return Recognised(ModelType.CHECKPOINT, Architecture.SDXL)
    if _any(shapes, "cond_stage_model.transformer."):
        return Recognised(ModelType.CHECKPOINT, Architecture.SD1)
    return Recognised(ModelType.CHECKPOINT, _by_cross_attention(shapes))


def _is_safety_classifier(shapes: Shapes) -> bool:
    return "concept_embeds" in shapes and "special_care_embeds" in shapes


def _safety_classifier(_shapes: Shapes) -> Recognised:
    return Recognised(ModelType.SAFETY_CLASSIFIER)


def _is_vae(shapes: Shapes) -> bool:
    parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "first_stage_model.")
    ends = ("decoder.conv_out.weight", "first_stage_model.decoder.conv_out.weight")
    return _all(shapes, *parts, "loss.") and any(end in shapes for end in ends)


def _vae(_shapes: Shapes) -> Recognised:
    # SDXL's and SD 1.x's have the same tensors; only their scale differs.
    return Recognised(ModelType.VAE)


def _is_text_encoder(shapes: Shapes) -> bool:
    return _all(shapes, "text_model.", "text_projection.", "logit_scale") and _any(
        shapes, "text_model.encoder.layers."
    )


def _text_encoder(_shapes: Shapes) -> Recognised:
    return Recognised(ModelType.TEXT_ENCODER)


def _is_embedding(shapes: Shapes) -> bool:
    # A textual inversion is nothing but rows for the token embeddings.
    return set(shapes) <= {"clip_l", "clip_g", "emb_params"} or (
        len(shapes) == 1
        and all(len(shape) <= 2 and shape[-1:] in _ROWS for shape in shapes.values())
    )


_ROWS = {(768,), (1024,), (1280,)}


def _embedding(shapes: Shapes) -> Recognised:
    if "clip_g" in shapes:
        return Recognised(ModelType.EMBEDDING, Architecture.SDXL)
    (shape, *_) = shapes.values()
    return Recognised(ModelType.EMBEDDING, Architecture.SD1 if shape[-1:] == (768,) else None)


def _is_upscaler(shapes: Shapes) -> bool:
    names = {_WRAPPED.sub("", name): shape for name, shape in shapes.items()}
    # Compact: convolutions and, between them, one slope per channel.
    compact = [len(names.get(f"body.{layer}.weight", ())) for layer in (0, 1)] == [4, 1]
    return compact or any(_UPSCALER.match(name) for name in names)


def _upscaler(_shapes: Shapes) -> Recognised:
    return Recognised(ModelType.UPSCALER)


def _by_cross_attention(shapes: Shapes) -> Architecture | None:
    for name, shape in shapes.items():
        if len(shape) >= 2 and _CROSS_ATTENTION.search(name):
            return _TEXT_WIDTHS.get(shape[1])
    return None


_TESTS: tuple[tuple[Callable[[Shapes], bool], Callable[[Shapes], Recognised]], ...] = (
    (_is_lora, _lora),
    (_is_control_net, _control_net),
    (_is_checkpoint, _checkpoint),
    (_is_safety_classifier, _safety_classifier),
    (_is_vae, _vae),
    (_is_text_encoder, _text_encoder),
    (_is_embedding, _embedding),
    (_is_upscaler, _upscaler),
)
