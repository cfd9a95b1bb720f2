"""What makes a checkpoint follow a picture: ControlNets and what goes for one.

Sources: `CHECKPOINT_KEY_NAMES` and the ControlNets of diffusers, `comfy/controlnet.py` of
ComfyUI (control-LoRA, T2I-Adapter, union), `ip_adapter.py` of IP-Adapter, kohya-ss/sd-scripts
(ControlNet-LLLite).
"""

from __future__ import annotations

from dataclasses import replace

from domains.model.backends.families.registry import marked, of_attention_width
from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.marks import Mark, first_fitting
from domains.model.backends.recognition.tensors import Tensors
from domains.model.backends.recognition.unets import architecture_of
from domains.model.types import Architecture, ModelType
from domains.values import PROMAX, UNION, ControlNetType

_CONTROL = ModelType.CONTROL_NET
_SDXL, _SD1 = Architecture.SDXL, Architecture.SD1
# Channels of the unshuffled control picture: 8 x 8 x 3 and 16 x 16 x 3, grey ones too.
_OF_UNSHUFFLED = {64: _SD1, 192: _SD1, 256: _SDXL, 768: _SDXL}
_WRAPPERS = ("control_model.", "controlnet.", "module.")


def control(tensors: Tensors) -> Recognised | None:
    """What a control file is; None where it is none."""
    for test in (_control_lora, _lllite, _prompt_adapter, _sketch_adapter, _control_net):
        found = test(tensors)
        if found is not None:
            return found
    return None


def _control_lora(tensors: Tensors) -> Recognised | None:
    if not tensors.has("lora_controlnet") and not tensors.has_all(
        ("input_hint_block.", "zero_convs.", "input_blocks.0.0.down")
    ):
        return None
    name = next(tensors.ending("attn2.to_k.down"), "")
    return Recognised(_CONTROL, of_attention_width(tensors.size(name, 1)), "control-LoRA")


def _lllite(tensors: Tensors) -> Recognised | None:
    if tensors.has("lllite_unet_"):
        return Recognised(_CONTROL, _SDXL, "ControlNet-LLLite")
    if tensors.has("lllite_"):
        return Recognised(_CONTROL, None, "ControlNet-LLLite", family="Anima")
    return None


_PROMPT_ADAPTERS = (
    ("image_proj.perceiver_resampler.", "IP-Adapter FaceID Plus"),
    ("ip_adapter.0.to_k_lora.", "IP-Adapter FaceID"),
    ("image_proj.latents", "IP-Adapter Plus"),
    ("image_proj.proj.3.", "IP-Adapter Full Face"),
    ("image_proj.proj.0.", "IP-Adapter FaceID"),
    ("image_proj.", "IP-Adapter"),
)


APPLIED = ("IP-Adapter", "IP-Adapter Plus", "IP-Adapter Full Face")
"""Kinds that read pictures by an image encoder alone; others need a face recogniser too."""


def _prompt_adapter(tensors: Tensors) -> Recognised | None:
    if tensors.has("ip_adapter_proj_model.") or (
        tensors.has("image_proj.") and tensors.has("double_blocks.")
    ):
        return Recognised(
            ModelType.IMAGE_PROMPT_ADAPTER, Architecture.FLUX, "IP-Adapter (XLabs)"
        )
    if not tensors.has_all(("image_proj.", "ip_adapter.")):
        return None
    name = next(tensors.ending(".to_k_ip.weight"), "")
    kind = next(kind for start, kind in _PROMPT_ADAPTERS if tensors.has(start))
    architecture = of_attention_width(tensors.size(name, 1))
    return Recognised(ModelType.IMAGE_PROMPT_ADAPTER, architecture, kind)


def _sketch_adapter(tensors: Tensors) -> Recognised | None:
    """T2I-Adapters, as their makers and as diffusers name them."""
    inner = tensors.unwrapped(("adapter.", "model."))
    if not inner.has_any(
        ("body.0.resnets.0.block1.", "body.0.block1.", "body.0.in_conv.")
    ) or inner.has("controlnet_cond_embedding."):
        return None
    channels = inner.size("conv_in.weight", 1) or inner.size("body.0.in_conv.weight", 1)
    return Recognised(_CONTROL, _OF_UNSHUFFLED.get(channels), "T2I-Adapter")


_OTHERS = (
    Mark(
        Recognised(_CONTROL, None, "SparseCtrl", family="AnimateDiff"),
        every=("controlnet_cond_embedding.", "down_blocks.0.motion_modules."),
    ),
    Mark(
        Recognised(_CONTROL, Architecture.FLUX, "Flux ControlNet (XLabs)"),
        every=("controlnet_blocks.", "double_blocks.0."),
    ),
    Mark(
        Recognised(_CONTROL, Architecture.FLUX, "Flux ControlNet union"),
        every=("controlnet_blocks.", "controlnet_mode_embedder.", "transformer_blocks.0."),
    ),
    Mark(
        Recognised(_CONTROL, Architecture.FLUX, "Flux ControlNet"),
        every=("controlnet_blocks.", "controlnet_x_embedder.", "transformer_blocks.0."),
        none=("txt_norm.",),
    ),
    Mark(
        Recognised(_CONTROL, Architecture.SD3, "SD3 ControlNet"),
        every=("controlnet_blocks.", "pos_embed", "transformer_blocks.0."),
    ),
    Mark(
        Recognised(_CONTROL, None, "Qwen-Image ControlNet", family="Qwen-Image"),
        every=("controlnet_blocks.", "txt_norm."),
    ),
)


def _control_net(tensors: Tensors) -> Recognised | None:
    inner = tensors.unwrapped(_WRAPPERS)
    if not inner.has_any(
        ("controlnet_", "input_hint_block.", "zero_convs.")
    ) and not tensors.has("control_model."):
        return None
    other = first_fitting(_OTHERS, inner)
    if other is not None:
        return other
    # Names first: a width shows less, as small models have any.
    architecture = marked(_CONTROL, inner) or architecture_of(inner)
    found = Recognised(_CONTROL, architecture)
    if inner.has_all(("task_embedding", "control_add_embedding.")):
        promax = inner.size("task_embedding", 0) >= len(ControlNetType)
        return replace(found, kind=PROMAX if promax else UNION)
    return found
