"""The training of the textual inversion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

from demo.train import embedding
from demo.train.parts.base import BASE
from demo.train.parts.text import tokens
from domains.model.backends.recognition import Tensors, recognise
from domains.model.types import Architecture, ModelType


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedding")
    embedding.main(["--out", str(folder), "--smoke"])
    return folder / "emoji-embedding.safetensors"


def test_rows_for_both_encoders_have_moved_apart(written):
    rows = load_file(written)
    assert {name: tuple(tensor.shape) for name, tensor in rows.items()} == {
        "clip_l": (embedding.VECTORS, 128),
        "clip_g": (embedding.VECTORS, 192),
    }
    for tensor in rows.values():
        assert not torch.equal(tensor[0], tensor[1]), "rows that start alike were not trained"
    recognised = recognise(
        Tensors({name: tuple(tensor.shape) for name, tensor in rows.items()})
    )
    assert recognised.type is ModelType.EMBEDDING
    assert recognised.architecture is Architecture.SDXL


def test_training_reads_the_prompt_that_a_pipeline_reads(written):
    """The ids trained with are those of the prompt with the loaded token at its end."""
    rows = load_file(written)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        BASE, variant="fp16", unet=None, vae=None
    )
    tokenizer = pipeline.tokenizer
    plain = tokens(tokenizer, ["a robot on a teal background", "pizza"])
    first = len(tokenizer)
    pipeline.load_textual_inversion(
        rows["clip_l"],
        token=embedding.TOKEN,
        text_encoder=pipeline.text_encoder,
        tokenizer=tokenizer,
    )
    prompts = [f"a robot on a teal background {embedding.TOKEN}", f"pizza {embedding.TOKEN}"]
    expanded = pipeline.maybe_convert_prompt(prompts, tokenizer)
    expected = tokens(tokenizer, expanded)
    assert torch.equal(embedding.with_token(plain, first, embedding.VECTORS), expected)


def test_a_prompt_too_long_is_cut_before_the_token():
    ids = torch.cat([torch.tensor([0]), torch.full((75,), 9), torch.tensor([embedding.END])])
    result = embedding.with_token(ids[None], 100, 3)[0]
    assert result.tolist() == [0, *[9] * 72, 100, 101, 102, embedding.END]


def test_far_shrinks_into_the_middle():
    picture = torch.full((1, 3, 100, 100), -1.0)
    picture[..., 10:90, 10:90] = 1.0
    result = embedding.far(picture)
    assert (result > 0).float().mean() == pytest.approx(0.64 * embedding.FAR**2, rel=0.1)
    assert result[0, 0, 50, 50] == pytest.approx(1)
    assert result[0, 0, 30, 30] == pytest.approx(-1)
