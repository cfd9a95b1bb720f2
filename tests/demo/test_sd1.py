"""The SD 1.x model: its architecture, and a smoke run through diffusers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from demo.train import sd1, sd1_vae
from demo.train.parts import command
from demo.train.parts.base import BASE, load_base
from demo.train.parts.files import by_part
from demo.train.parts.inherit import inherit
from demo.train.parts.loop import Plan

MIB_15_5 = 15_500_000


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd1")
    sd1.main(["--smoke", "--out", str(folder)])
    sd1_vae.main(["--smoke", "--out", str(folder)])
    return folder


def _parts(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    parts = by_part(load_file(out / "emoji-sd1.safetensors"))
    parts["vae"] = load_file(out / "emoji-sd1-vae.safetensors")
    return {
        part: {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
        for part, tensors in parts.items()
    }


def test_a_smoke_run_draws_through_the_pipeline_of_sd1(out: Path) -> None:
    parts = _parts(out)
    base = load_base(device="cpu")
    unet, vae = sd1.build_unet(128), sd1_vae.build_vae()
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
    assert parts["vae"]["decoder.conv_out.bias"].abs().max() > 0
    drawing, latents = (
        json.loads((out / f"emoji-sd1{part}.json").read_text()) for part in ("", "-vae")
    )
    assert drawing["steps"] == latents["steps"] == 2
    assert drawing["held_out_epsilon_error"] > 0
    assert latents["psnr_db"] < latents["teacher_psnr_db"]


def test_a_run_goes_on_from_an_earlier_one(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At a rate this low a step shows in nothing but where it began.
    monkeypatch.setattr(
        command, "Plan", lambda **given: Plan(**{**given, "learning_rate": 1e-12, "ema": None})
    )
    sd1.main(["--smoke", "--out", str(tmp_path), "--start", str(out), "--seed", "9"])

    before, after = (load_file(folder / sd1.FILE) for folder in (out, tmp_path))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-3, rtol=0)


def test_it_is_the_architecture_of_sd1_within_its_bytes(out: Path) -> None:
    config = sd1.build_unet(128).config

    assert config.down_block_types == ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    assert (config.attention_head_dim, config.use_linear_projection) == (8, False)
    assert config.addition_embed_type is None
    assert sd1_vae.build_vae().config.scaling_factor == 0.18215
    files = (out / "emoji-sd1.safetensors", out / "emoji-sd1-vae.safetensors")
    assert sum(file.stat().st_size for file in files) < MIB_15_5


def test_the_pupil_is_taught_the_same_latents_at_the_scale_of_sd1() -> None:
    teacher = load_base(device="cpu").vae
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1

    mean, log_variance = sd1_vae.lesson(teacher, pixels).chunk(2, dim=1)

    given = teacher.encode(pixels).latent_dist
    ratio = teacher.config.scaling_factor / sd1_vae.SCALE
    torch.testing.assert_close(mean * sd1_vae.SCALE, given.mean * teacher.config.scaling_factor)
    torch.testing.assert_close(log_variance.exp().sqrt(), given.std * ratio)


def test_the_highest_level_starts_as_the_bases() -> None:
    base = load_base(device="cpu").unet
    unet = sd1.build_unet(128)

    filled = inherit(unet, sd1.from_base(base.state_dict()))

    assert filled > 500_000
    assert torch.equal(
        unet.up_blocks[3].resnets[2].conv1.weight, base.up_blocks[2].resnets[2].conv1.weight
    )
