"""Whole models of random weights, a megabyte each: for tests that load hundreds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

_TOKENIZER = Path(__file__).parents[2] / "demo" / "models" / "emoji-xl" / "tokenizer"
_WIDTH = 16
_POOLED = 8
_TIME = 8


def save_sdxl(to: Path) -> Path:
    """A model of SDXL's parts; draws best at 256 pixels."""
    torch.manual_seed(5)
    parts = {
        "tokenizer": _tokenizer(),
        "tokenizer_2": _tokenizer(),
        "text_encoder": CLIPTextModel(_text()),
        "text_encoder_2": CLIPTextModelWithProjection(_text()),
        "unet": _unet(
            2 * _WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=_TIME,
            projection_class_embeddings_input_dim=6 * _TIME + _POOLED,
        ),
        "vae": _vae(),
        "scheduler": DPMSolverMultistepScheduler(**_NOISE, steps_offset=1),
    }
    kind: Any = StableDiffusionXLPipeline
    kind(**parts).save_pretrained(to)
    return to


def save_sd1(to: Path, *, halvings: int = 2) -> Path:
    """A model of SD 1.x's parts; its tokenizer has a vocabulary and merges alone. Its latents
    are so many times half as wide and high as its pictures."""
    torch.manual_seed(6)
    kind: Any = StableDiffusionPipeline
    kind(
        tokenizer=_tokenizer(),
        text_encoder=CLIPTextModel(_text()),
        unet=_unet(_WIDTH),
        vae=_vae(halvings),
        scheduler=DDIMScheduler(**_NOISE, steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(to)
    for name in ("vocab.json", "merges.txt"):
        (to / "tokenizer" / name).write_bytes((_TOKENIZER / name).read_bytes())
    (to / "tokenizer" / "tokenizer.json").unlink()
    return to


def save_refiner(to: Path) -> Path:
    """A refiner for the model of `save_sdxl`, which lends it the rest of its parts."""
    torch.manual_seed(7)
    parts: dict[str, Any] = {
        "vae": None,
        "text_encoder": None,
        "text_encoder_2": None,
        "tokenizer": None,
        "tokenizer_2": _tokenizer(),
        "unet": _unet(
            _WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=_TIME,
            projection_class_embeddings_input_dim=5 * _TIME + _POOLED,
        ),
        "scheduler": EulerDiscreteScheduler(**_NOISE),
    }
    kind: Any = StableDiffusionXLImg2ImgPipeline
    kind(**parts, requires_aesthetics_score=True).save_pretrained(to)
    return to


def save_control_net(to: Path, model: Path) -> Path:
    """A ControlNet for the model of `save_sdxl` that lies at `model`."""
    torch.manual_seed(8)
    unet = UNet2DConditionModel.from_pretrained(model / "unet", local_files_only=True)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16))
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    net.save_pretrained(to)
    return to


def save_lora(to: Path, model: Path) -> Path:
    """A LoRA for the UNet and encoders of the model of `save_sdxl` that lies at `model`."""
    torch.manual_seed(9)
    unet = UNet2DConditionModel.from_pretrained(model / "unet", local_files_only=True)
    layers = {
        f"lora_unet_{name.replace('.', '_')}": (each.in_features, each.out_features)
        for name, each in unet.named_modules()
        if name.endswith((".to_q", ".to_k", ".to_v"))
    }
    for encoder in ("te1", "te2"):
        layer = f"lora_{encoder}_text_model_encoder_layers_0_self_attn_q_proj"
        layers[layer] = (_WIDTH, _WIDTH)
    tensors = {}
    for layer, (wide, high) in layers.items():
        tensors[f"{layer}.lora_down.weight"] = torch.randn(2, wide) * 0.2
        tensors[f"{layer}.lora_up.weight"] = torch.randn(high, 2) * 0.2
        tensors[f"{layer}.alpha"] = torch.tensor(2.0)
    told = {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}
    save_file(tensors, to, told)
    return to


def save_embedding(to: Path) -> Path:
    """An embedding of two vectors for both encoders of the model of `save_sdxl`."""
    torch.manual_seed(10)
    vectors = {"clip_l": torch.randn(2, _WIDTH), "clip_g": torch.randn(2, _WIDTH)}
    save_file(vectors, to)
    return to


_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


def _tokenizer() -> CLIPTokenizer:
    kind: Any = CLIPTokenizer
    tokenizer: CLIPTokenizer = kind.from_pretrained(_TOKENIZER, local_files_only=True)
    return tokenizer


def _text() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(_tokenizer()),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=_POOLED,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _unet(width: int, **options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=width,
        layers_per_block=1,
        norm_num_groups=8,
        **options,
    )


def _vae(halvings: int = 2) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8,) * (halvings + 1),
        down_block_types=("DownEncoderBlock2D",) * (halvings + 1),
        up_block_types=("UpDecoderBlock2D",) * (halvings + 1),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
    )
