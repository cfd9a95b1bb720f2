"""Makes the tables of networks: `.venv/bin/python -m tests.domains.model.corpus.derive`.

Needs torch, diffusers and transformers; builds each network without weights and keeps the
names and shapes of its tensors.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers

from tests.domains.model.corpus import configurations as c
from tests.domains.model.corpus import original_names
from tests.domains.model.corpus.parts import TABLES, Shapes


def shapes_of(network: torch.nn.Module) -> Shapes:
    """Names and shapes of a network's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _unet(**config: Any) -> Shapes:
    return shapes_of(diffusers.UNet2DConditionModel(**config))


def _control(**config: Any) -> Shapes:
    return shapes_of(diffusers.ControlNetModel(**config))


def _text(config: dict[str, Any], *, projection: bool = False) -> Shapes:
    built = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**config))
    shapes = shapes_of(built)
    return {n: s for n, s in shapes.items() if projection or n != "text_projection.weight"}


def _vision(config: dict[str, Any]) -> Shapes:
    built = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    return shapes_of(built)


def _vit(labels: int) -> Shapes:
    """google/vit-base-patch16-224-in21k with a head, as transformers 4 named its layers."""
    new = shapes_of(
        transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=labels))
    )
    ends = {
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    old: Shapes = {}
    for name, shape in new.items():
        found = re.fullmatch(r"vit\.layers\.(\d+)\.(.*)\.(weight|bias)", name)
        if found is None:
            old[name] = shape
        else:
            end = ends.get(found[2], found[2])
            old[f"vit.encoder.layer.{found[1]}.{end}.{found[3]}"] = shape
    return old


def _transformer(name: str, **config: Any) -> Callable[[], Shapes]:
    return lambda: shapes_of(getattr(diffusers, name)(**config))


NETWORKS: dict[str, Callable[[], Shapes]] = {
    "unet-sd1": lambda: _unet(**c.SD1),
    "unet-sd2": lambda: _unet(**c.SD2),
    "unet-x4": lambda: _unet(**c.UPSCALER_X4),
    "unet-sdxl": lambda: _unet(**c.SDXL),
    "unet-refiner": lambda: _unet(**c.REFINER),
    "unet-ssd-1b": lambda: _unet(**c.SSD_1B),
    "unet-vega": lambda: _unet(**c.VEGA),
    "unet-koala-700m": lambda: _unet(**c.KOALA_700M),
    "unet-koala-1b": lambda: _unet(**c.KOALA_1B),
    "unet-kolors": lambda: _unet(**c.KOLORS),
    "control-sd1": lambda: _control(**c.SD1),
    "control-sd2": lambda: _control(**c.SD2),
    "control-sdxl": lambda: _control(**c.CONTROL_SDXL),
    "control-sdxl-mid": lambda: _control(**c.CONTROL_SDXL_MID),
    "control-sdxl-small": lambda: _control(**c.CONTROL_SDXL_SMALL),
    "control-union": lambda: shapes_of(diffusers.ControlNetUnionModel(**c.CONTROL_SDXL)),
    "vae": lambda: shapes_of(diffusers.AutoencoderKL(**c.VAE)),
    "vae-16": lambda: shapes_of(diffusers.AutoencoderKL(**c.VAE_16)),
    "vae-tiny": _transformer("AutoencoderTiny"),
    "clip-l": lambda: _text(c.CLIP_L),
    "openclip-h": lambda: _text(c.OPENCLIP_H, projection=True),
    "openclip-g": lambda: _text(c.OPENCLIP_G, projection=True),
    "t5-xxl": lambda: shapes_of(transformers.T5EncoderModel(transformers.T5Config(**c.T5_XXL))),
    "vision-l": lambda: _vision(c.VISION_L),
    "vision-h": lambda: _vision(c.VISION_H),
    "vision-g": lambda: _vision(c.VISION_G),
    "vit-nsfw": lambda: _vit(2),
    "depth-anything": lambda: shapes_of(
        transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig())
    ),
    "swin2sr-hf": lambda: shapes_of(
        transformers.Swin2SRForImageSuperResolution(transformers.Swin2SRConfig())
    ),
    "t2i-sd1": _transformer("T2IAdapter", adapter_type="full_adapter"),
    "t2i-sdxl": _transformer("T2IAdapter", adapter_type="full_adapter_xl", downscale_factor=16),
    "motion": _transformer("MotionAdapter"),
    "svd": _transformer("UNetSpatioTemporalConditionModel"),
    "flux-dev": _transformer("FluxTransformer2DModel", guidance_embeds=True),
    "flux-schnell": _transformer("FluxTransformer2DModel"),
    "sd3": _transformer(
        "SD3Transformer2DModel",
        num_layers=24,
        num_attention_heads=24,
        caption_projection_dim=1536,
        pos_embed_max_size=192,
    ),
    "sd3.5-large": _transformer(
        "SD3Transformer2DModel",
        num_layers=38,
        num_attention_heads=38,
        caption_projection_dim=2432,
        pos_embed_max_size=192,
        qk_norm="rms_norm",
    ),
    "chroma": _transformer("ChromaTransformer2DModel"),
    "pixart": _transformer("PixArtTransformer2DModel", caption_channels=4096),
    "auraflow": _transformer("AuraFlowTransformer2DModel"),
    "hunyuan-dit": _transformer(
        "HunyuanDiT2DModel",
        in_channels=4,
        sample_size=128,
        patch_size=2,
        hidden_size=1408,
        num_layers=40,
        mlp_ratio=4.3637,
    ),
    "hunyuan-video": _transformer("HunyuanVideoTransformer3DModel"),
    "cascade-c": _transformer(
        "StableCascadeUNet",
        in_channels=16,
        out_channels=16,
        conditioning_dim=2048,
        block_out_channels=(2048, 2048),
        num_attention_heads=(32, 32),
        down_num_layers_per_block=(8, 24),
        up_num_layers_per_block=(24, 8),
        down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(
            (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2
        ),
        clip_text_in_channels=1280,
        clip_text_pooled_in_channels=1280,
        clip_image_in_channels=768,
        switch_level=[False],
    ),
    "lumina-2": _transformer("Lumina2Transformer2DModel"),
    "sana": _transformer("SanaTransformer2DModel"),
    "qwen-image": _transformer("QwenImageTransformer2DModel"),
    "wan": _transformer("WanTransformer3DModel"),
    "ltx": _transformer("LTXVideoTransformer3DModel"),
    "mochi": _transformer("MochiTransformer3DModel"),
    "cogvideox": _transformer("CogVideoXTransformer3DModel"),
    "cogview-4": _transformer("CogView4Transformer2DModel"),
    "z-image": _transformer("ZImageTransformer2DModel"),
    "kandinsky-3": _transformer("Kandinsky3UNet"),
}


def originals(shapes: dict[str, Shapes]) -> dict[str, Shapes]:
    """The same networks as the original files have them."""
    found = {}
    for name, layers, attention in (
        ("unet-sd1", 2, {1, 2, 3}),
        ("unet-sd2", 2, {1, 2, 3}),
        ("unet-x4", 2, {0, 1, 2}),
        ("unet-sdxl", 2, {0, 1}),
        ("unet-refiner", 2, {1, 2}),
        ("unet-ssd-1b", 2, {0, 1}),
        ("unet-vega", 2, {0, 1}),
        ("unet-koala-700m", 1, {0, 1}),
        ("unet-koala-1b", 1, {0, 1}),
        ("control-sd1", 2, {1, 2, 3}),
        ("control-sd2", 2, {1, 2, 3}),
        ("control-sdxl", 2, {0, 1}),
    ):
        found[f"{name}-original"] = {
            original_names.unet(own, layers, frozenset(attention)): shape
            for own, shape in shapes[name].items()
        }
    for name in ("vae", "vae-16"):
        found[f"{name}-original"] = {
            original_names.vae(own): (*shape, 1, 1) if _is_attention(own, shape) else shape
            for own, shape in shapes[name].items()
        }
    for name in ("openclip-h", "openclip-g"):
        found[f"{name}-original"] = original_names.open_clip(shapes[name])
    return found


def _is_attention(name: str, shape: tuple[int, ...]) -> bool:
    # What is a matrix in diffusers is a convolution of one pixel there.
    return "attentions" in name and len(shape) == 2


def main() -> None:
    """Write the tables."""
    with torch.device("meta"):
        derived = {name: build() for name, build in NETWORKS.items()}
    derived |= originals(derived)
    text = json.dumps(derived, separators=(",", ":"))
    TABLES.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
