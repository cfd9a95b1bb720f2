"""Single files in the original layout, written from folders by the demo's own names."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.train.layouts.checkpoint import sd1_checkpoint, sdxl_checkpoint
from demo.train.layouts.text import open_clip_text
from demo.train.layouts.unet import original_unet, original_unet_names
from demo.train.layouts.vae import original_vae
from tests.domains.model.disk import DEMO

Tensors = dict[str, Tensor]


def parts_of(folder: Path) -> dict[str, Tensors]:
    """The weights of a folder's networks."""
    found: dict[str, Tensors] = {}
    for file in sorted(folder.glob("*/*.safetensors")):
        found.setdefault(file.parent.name, {}).update(load_file(file))
    return found


def sdxl_file(path: Path, folder: Path, **metadata: str) -> Path:
    """An SDXL folder as one file."""
    return written(path, sdxl_checkpoint(**parts_of(folder)), metadata)


def sd1_file(path: Path, folder: Path, **metadata: str) -> Path:
    """An SD 1.x folder as one file."""
    return written(path, sd1_checkpoint(**parts_of(folder)), metadata)


def sd2_tensors(folder: Path, width: int) -> Tensors:
    """An SD 2.x folder's tensors in one file: with the layer that its encoder leaves out."""
    import torch

    parts = parts_of(folder)
    text = dict(parts["text_encoder"])
    layers = {name.split("layers.")[1].split(".")[0] for name in text if "layers." in name}
    last = len(layers)
    for name in list(text):
        if f"layers.{last - 1}." in name:
            text[name.replace(f"layers.{last - 1}.", f"layers.{last}.")] = torch.randn_like(
                text[name]
            )
    text["text_projection.weight"] = torch.randn(width, width)
    return {
        **_behind("model.diffusion_model.", original_unet(parts["unet"])),
        **_behind("first_stage_model.", original_vae(parts["vae"])),
        **_behind("cond_stage_model.model.", open_clip_text(text)),
    }


def refiner_tensors(folder: Path, unet: Mapping[str, Tensor]) -> Tensors:
    """A refiner in one file, with the second encoder and the VAE of a folder."""
    parts = parts_of(folder)
    return {
        **_behind("model.diffusion_model.", original_unet(unet)),
        **_behind("first_stage_model.", original_vae(parts["vae"])),
        **_behind("conditioner.embedders.0.model.", open_clip_text(parts["text_encoder_2"])),
    }


def written(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """A safetensors file; names of metadata have `_` for the first dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, path, {key.replace("_", ".", 1): said for key, said in metadata.items()})
    return path


def _behind(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def refiner_file(folder: Path) -> tuple[Path, UNet2DConditionModel]:
    """A small refiner in one file, the configuration that it names beside it, and its UNet."""
    torch.manual_seed(2)
    refiner = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=192,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=192 + 5 * 32,
    )
    tensors = refiner_tensors(DEMO, refiner.state_dict())
    path = folder / "refiner.safetensors"
    written(path, tensors, {"deviceops_configuration": "own"})
    for name in ("text_encoder_2", "tokenizer_2", "vae"):
        ignored = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(DEMO / name, folder / "own" / name, ignore=ignored)
    return path, refiner


def original_control(name: str) -> str:
    """By the numbers of the original code's `ControlNet`, to which a union adds parts."""
    if name.startswith(
        ("task_embedding", "transformer_layes.", "spatial_ch_projs.", "control_add_embedding.")
    ):
        return name
    if name.startswith("controlnet_down_blocks."):
        _, number, leaf = name.split(".")
        return f"zero_convs.{number}.0.{leaf}"
    if name.startswith("controlnet_mid_block."):
        return name.replace("controlnet_mid_block.", "middle_block_out.0.")
    if name.startswith("controlnet_cond_embedding."):
        _, part, *rest = name.split(".")
        number = {"conv_in": 0, "conv_out": 14}.get(part)
        if number is None:
            number, rest = 2 * int(rest[0]) + 2, rest[1:]
        return f"input_hint_block.{number}.{rest[-1]}"
    return original_unet_names([name])[name]
