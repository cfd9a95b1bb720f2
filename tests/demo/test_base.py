"""The base model's recipe: the scripts build what is shipped, and their results fit it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from demo.train import base_model, base_vae
from demo.train.parts.base import BASE, BaseModel, load_base


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(device="cpu")


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def test_a_smoke_run_of_the_vae_fits_the_base_model(tmp_path: Path, base: BaseModel) -> None:
    base_vae.main(["--smoke", "--out", str(tmp_path), "--batch", "1", "--steps", "1"])

    weights = load_file(tmp_path / "base-vae.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == _shapes(base.vae)
    assert json.loads((tmp_path / "base-vae.json").read_text())["psnr_db"] > 0


def test_a_smoke_run_of_the_model_trains_all_three_networks(
    tmp_path: Path, base: BaseModel
) -> None:
    vae = str(BASE / "vae" / "diffusion_pytorch_model.fp16.safetensors")

    base_model.main(["--smoke", "--out", str(tmp_path), "--vae", vae, "--batch", "1"])

    for name, module in (
        ("base-unet", base.unet),
        ("base-text-encoder", base.text_encoder),
        ("base-text-encoder-2", base.text_encoder_2),
    ):
        weights = load_file(tmp_path / f"{name}.safetensors")
        assert {key: tuple(value.shape) for key, value in weights.items()} == _shapes(module)
        biases = [value for key, value in weights.items() if key.endswith("q_proj.bias")]
        # Attention biases start at zero in the encoders; a gradient has moved them.
        assert all(value.abs().max() > 0 for value in biases[:1])
    assert json.loads((tmp_path / "base-model.json").read_text())["steps"] == 2


def test_the_networks_start_from_random_weights_in_float32(base: BaseModel) -> None:
    fresh = base_model.untrained(base)

    assert fresh.vae is base.vae
    for mine, theirs in (
        (fresh.unet, base.unet),
        (fresh.text_encoder, base.text_encoder),
        (fresh.text_encoder_2, base.text_encoder_2),
    ):
        assert _shapes(mine) == _shapes(theirs)
        assert all(value.dtype == torch.float32 for value in mine.parameters())
        assert all(value.requires_grad for value in mine.parameters())
        name, first = next((n, p) for n, p in mine.named_parameters() if p.dim() > 1)
        assert not torch.equal(first, dict(theirs.named_parameters())[name])
