"""The training of the comic checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from demo.train import comic
from demo.train.layouts.text import transformers_text
from demo.train.parts.base import BASE


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comic")
    comic.main(["--out", str(folder), "--smoke"])
    return folder


def test_the_shards_are_the_whole_unet_and_have_moved(written):
    base = load_file(BASE / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    files = sorted(written.glob("unet-*.safetensors"))
    assert all(file.stat().st_size <= 16 << 20 for file in files)
    shards = [load_file(file) for file in files]
    together = {name: tensor for shard in shards for name, tensor in shard.items()}
    assert sum(map(len, shards)) == len(together)
    assert {name: tensor.shape for name, tensor in together.items()} == {
        name: tensor.shape for name, tensor in base.items()
    }
    moved = [name for name in base if not torch.equal(base[name], together[name])]
    assert len(moved) > len(base) / 2


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2"])
def test_both_text_encoders_are_trained_too(part, written):
    # Which names have `text_model.` in front depends on the version of Transformers.
    base = transformers_text(load_file(BASE / part / "model.fp16.safetensors"))
    ours = transformers_text(load_file(written / f"{part}.safetensors"))
    assert ours.keys() == base.keys()
    # The penultimate layer feeds the UNet, so what lies before it must have moved.
    moved = [name for name in base if not torch.equal(base[name], ours[name])]
    assert any("layers.0." in name for name in moved)


def test_shards_keep_to_the_limit_and_the_order():
    weights = {name: torch.zeros(size) for name, size in zip("abcd", (3, 2, 9, 1), strict=True)}
    parts = comic.shards(weights, limit=10)
    assert [list(part) for part in parts] == [["a", "b"], ["c"], ["d"]]
