"""What a single safetensors file is, from the names and shapes of its tensors.

File names are what people make of them; tensor names are what programs read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from domains.model.backends.families.registry import FAMILIES, marked
from domains.model.types import Architecture, ModelType

Shapes = dict[str, tuple[int, ...]]

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
    """What a file is; None where its tensors do not show it."""

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
    return _of_family(ModelType.LORA, shapes)


def _is_control_net(shapes: Shapes) -> bool:
    marks = ("control_model.", "controlnet_cond_embedding.", "input_hint_block.")
    return _any(shapes, *marks, "controlnet_mid_block.")


def _control_net(shapes: Shapes) -> Recognised:
    return _of_family(ModelType.CONTROL_NET, shapes)


def _is_checkpoint(shapes: Shapes) -> bool:
    return _any(shapes, "model.diffusion_model.")


def _checkpoint(shapes: Shapes) -> Recognised:
    refined = marked(ModelType.REFINER, shapes)
    if refined is not None:
        return Recognised(ModelType.REFINER, refined)
    return _of_family(ModelType.CHECKPOINT, shapes)


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
    (shape, *_) = shapes.values()
    made_for = (f.architecture for f in FAMILIES if shape[-1:] == (f.embedding_width,))
    architecture = marked(ModelType.EMBEDDING, shapes) or next(made_for, None)
    return Recognised(ModelType.EMBEDDING, architecture)


def _is_upscaler(shapes: Shapes) -> bool:
    names = {_WRAPPED.sub("", name): shape for name, shape in shapes.items()}
    # Compact: convolutions and, between them, one slope per channel.
    compact = [len(names.get(f"body.{layer}.weight", ())) for layer in (0, 1)] == [4, 1]
    return compact or any(_UPSCALER.match(name) for name in names)


def _upscaler(_shapes: Shapes) -> Recognised:
    return Recognised(ModelType.UPSCALER)


def _of_family(type: ModelType, shapes: Shapes) -> Recognised:
    """By a mark first: a width shows less, as small models have any."""
    return Recognised(type, marked(type, shapes) or _by_cross_attention(shapes))


def _by_cross_attention(shapes: Shapes) -> Architecture | None:
    for name, shape in shapes.items():
        if len(shape) >= 2 and _CROSS_ATTENTION.search(name):
            fitting = (f.architecture for f in FAMILIES if shape[1] in f.attention_widths)
            return next(fitting, None)
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
