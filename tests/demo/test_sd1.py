"""The SD 1.x model: its architecture, and a smoke run through diffusers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from demo.train import sd1
from demo.train.parts.base import BASE, load_base

MIB_15_5 = 15_500_000


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd1")
    sd1.main(["--smoke", "--out", str(folder)])
    return folder


def _parts(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    parts: dict[str, dict[str, torch.Tensor]] = {"unet": {}, "text_encoder": {}, "vae": {}}
    for name, tensor in load_file(out / "emoji-sd1.safetensors").items():
        part, key = name.split(".", 1)
        parts[part][key] = tensor.float() if tensor.is_floating_point() else tensor
    return parts


def test_a_smoke_run_draws_through_the_pipeline_of_sd1(out: Path) -> None:
    parts = _parts(out)
    base = load_base(device="cpu")
    unet, vae = sd1.build_unet(128), sd1.build_vae()
    unet.load_state_dict(parts["unet"])
    vae.load_state_dict(parts["vae"])
    base.text_encoder.load_state_dict(parts["text_encoder"])
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_pretrained(BASE, subfolder="scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)

    picture = pipeline(
        "a robot", height=256, width=256, num_inference_steps=1, output_type="pt"
    ).images

    assert picture.shape == (1, 3, 256, 256)
    assert picture.isfinite().all()


def test_every_part_was_trained(out: Path) -> None:
    torch.manual_seed(0)
    parts = _parts(out)
    before = load_base(device="cpu").text_encoder.state_dict()

    changed = [k for k, v in parts["text_encoder"].items() if not torch.equal(v, before[k])]
    assert any("q_proj" in name for name in changed)
    assert parts["unet"]["conv_out.bias"].abs().max() > 0
    latents = json.loads((out / "emoji-sd1.json").read_text())
    assert latents["steps"] == latents["vae_steps"] == 2
    assert latents["held_out_epsilon_error"] > 0


def test_it_is_the_architecture_of_sd1_within_its_bytes(out: Path) -> None:
    config = sd1.build_unet(128).config

    assert config.down_block_types == ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    assert (config.attention_head_dim, config.use_linear_projection) == (8, False)
    assert config.addition_embed_type is None
    assert sd1.build_vae().config.scaling_factor == 0.18215
    assert (out / "emoji-sd1.safetensors").stat().st_size < MIB_15_5
