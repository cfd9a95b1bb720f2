"""The training of the style LoRAs, and that what it writes is read as a LoRA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.train import style_lora
from demo.train.layouts.lora import kohya_lora, peft_lora
from demo.train.parts.base import BASE
from domains.model.backends.recognition import Tensors, recognise
from domains.model.types import ModelType


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    style_lora.main(["--style", "line-art", "--out", str(folder), "--smoke"])
    return folder / "line-art.safetensors"


def test_a_run_trains_every_layer_and_stays_small(written):
    weights = load_file(written)
    ups = [tensor for name, tensor in weights.items() if "lora_B" in name]
    assert len(ups) * 2 == len(weights)
    assert all(tensor.any() for tensor in ups), "a layer was not reached by the training"
    assert any("attn2.to_k" in name for name in weights)
    assert any("down_blocks.0.resnets.0.conv1" in name for name in weights)
    assert written.stat().st_size < 1_500_000


def test_the_header_holds_what_trainers_write(written):
    with safe_open(written, "pt") as file:
        told = file.metadata()
    assert told["modelspec.trigger_phrase"] == "line art style"
    assert json.loads(told["ss_tag_frequency"])["emoji"].keys() == {"line art style"}
    assert told["ss_network_dim"] == told["ss_network_alpha"] == "8"


def test_the_facts_tell_rank_and_alpha(written):
    facts = json.loads(written.with_suffix(".json").read_text())
    assert (facts["rank"], facts["alpha"], facts["steps"]) == (8, 8, 2)
    assert facts["trigger"] == "line art style"


def test_the_opposite_lies_on_the_other_side_of_the_plain_picture():
    plain = torch.tensor([0.0, 0.2, -0.9])
    styled = torch.tensor([0.4, 0.2, 0.9])
    assert torch.allclose(style_lora.opposite(plain, styled), torch.tensor([-0.2, 0.2, -1.0]))


def shaken(path: Path) -> dict[str, Tensor]:
    """The written weights with an effect that is easy to see."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.05
        for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("kind", ["peft", "kohya"])
def test_every_layer_takes_effect_in_both_formats(kind, written, tmp_path):
    raw = shaken(written)
    lora = peft_lora({"unet": raw})
    lora = lora if kind == "peft" else kohya_lora(lora)
    save_file(lora, tmp_path / "style.safetensors")
    recognised = recognise(
        Tensors({name: tuple(tensor.shape) for name, tensor in lora.items()})
    )
    assert recognised.type is ModelType.LORA

    pipeline = StableDiffusionXLPipeline.from_pretrained(BASE, variant="fp16", vae=None)
    pipeline.load_lora_weights(tmp_path, weight_name="style.safetensors", adapter_name="a")
    layers = {
        name: module
        for name, module in pipeline.unet.named_modules()
        if "a" in getattr(module, "lora_A", {})
    }
    assert 2 * len(layers) == len(raw)
    for name, layer in layers.items():
        assert torch.equal(layer.lora_A["a"].weight, raw[f"{name}.lora_A.weight"])
        assert torch.equal(layer.lora_B["a"].weight, raw[f"{name}.lora_B.weight"])
        assert layer.scaling["a"] == 1
