"""The decoder's training changes the decoder alone."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from demo.train import vae_decoder
from demo.train.parts.base import BASE


def test_only_the_decoder_is_written_and_it_has_changed(tmp_path: Path) -> None:
    vae_decoder.main(["--smoke", "--out", str(tmp_path)])
    base = load_file(BASE / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    trained = load_file(tmp_path / "vae-decoder.safetensors")
    assert set(trained) == {
        name for name in base if name.startswith(("decoder.", "post_quant_conv."))
    }
    assert not torch.equal(trained["decoder.conv_in.weight"], base["decoder.conv_in.weight"])
    facts = json.loads((tmp_path / "vae-decoder.json").read_text())
    # Two careful steps leave it about as good as it was.
    assert facts["base_psnr_db"] > 20
    assert abs(facts["psnr_db"] - facts["base_psnr_db"]) < 1


def test_the_loss_prefers_the_nearer_picture_and_is_least_at_the_truth() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    noise = torch.randn(truth.shape, generator=generator)
    losses = [float(vae_decoder.loss_of(truth + far * noise, truth)) for far in (0, 0.01, 0.1)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1] < losses[2]
