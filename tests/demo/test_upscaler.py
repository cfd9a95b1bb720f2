"""The Compact architecture, and the upscaler's training on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from demo.train import upscaler
from demo.train.parts.emoji import load_emoji
from demo.train.srvgg import Compact, compact_from


def test_a_network_that_adds_nothing_enlarges_by_nearest_neighbour() -> None:
    network = Compact(scale=3, features=4, depth=1)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    pixels = torch.rand(1, 3, 5, 7)
    wanted = functional.interpolate(pixels, scale_factor=3, mode="nearest")
    assert torch.equal(network(pixels), wanted)


def test_names_and_shapes_are_those_of_real_esrgan() -> None:
    shapes = {k: tuple(v.shape) for k, v in Compact(scale=4).state_dict().items()}
    assert len(shapes) == 2 + 1 + 16 * 3 + 2
    assert shapes["body.0.weight"] == (64, 3, 3, 3)
    assert shapes["body.1.weight"] == (64,)
    assert shapes["body.34.weight"] == (48, 64, 3, 3)


def test_a_file_builds_the_network_it_came_from() -> None:
    network = Compact(scale=2, features=8, depth=3)
    pixels = torch.rand(1, 3, 6, 6)
    assert torch.equal(compact_from(network.state_dict())(pixels), network(pixels))


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"body.0.weight": torch.zeros(4, 3, 3, 3), "body.2.weight": torch.zeros(12, 4, 3, 3)},
        Compact(scale=2, features=4, depth=1).state_dict()
        | {"body.0.weight": torch.zeros(4, 1, 3, 3)},
        Compact(scale=2, features=4, depth=1).state_dict()
        | {"body.4.weight": torch.zeros(15, 4, 3, 3)},
    ],
)
def test_tensors_of_another_network_are_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="Compact upscaler"):
        compact_from(tensors)


def test_held_out_emoji_are_never_trained_on() -> None:
    everything = load_emoji(limit=40)
    training, kept_out = upscaler.split(everything)
    assert set(training.names) | set(kept_out.names) == set(everything.names)
    assert not set(training.names) & set(kept_out.names)
    assert len(kept_out) == 3
    assert torch.equal(kept_out.pictures[1], everything.pictures[23])


def test_shrinking_averages_and_rounds_to_8_bits() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    small = upscaler.shrink(stripes, 4)
    assert small.shape == (1, 3, 16, 16)
    # Without antialiasing, stripes of one pixel would stay stripes.
    assert (small[..., 2:-2] - 0.5).abs().max() < 0.02
    assert torch.equal((small * 255).round() / 255, small)


@pytest.mark.parametrize("scale", [2, 4])
def test_patches_show_the_same_place_at_both_sizes(scale: int) -> None:
    place = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    large = functional.interpolate(place, scale_factor=scale, mode="nearest")
    low, high = upscaler.patches(place, large, scale, torch.Generator().manual_seed(1))
    assert low.shape == (8, 3, 32, 32)
    assert torch.equal(high[..., ::scale, ::scale], low)
    assert torch.equal(high[..., scale - 1 :: scale, scale - 1 :: scale], low)
    assert not torch.equal(low[0], low[2])


def test_the_training_runs_and_a_pickle_of_it_reads_back(tmp_path: Path) -> None:
    upscaler.main(["--scale", "4", "--smoke", "--out", str(tmp_path)])
    tensors = load_file(tmp_path / "compact-4x.safetensors")
    assert compact_from(tensors).scale == 4
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    facts = json.loads((tmp_path / "compact-4x.json").read_text())
    # Two steps teach nothing; that bicubic does well shows that the measure is sound.
    assert facts["steps"] == 2
    assert facts["bicubic_psnr_db"] > 25
    torch.save(tensors, tmp_path / "compact-4x.ckpt")
    copy = torch.load(tmp_path / "compact-4x.ckpt", weights_only=True)
    assert copy.keys() == tensors.keys()
    assert all(torch.equal(copy[name], tensor) for name, tensor in tensors.items())
