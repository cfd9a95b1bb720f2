"""Image prompts on a card: steps that attend to them are replayed, with plain ones' bits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from domains.inference.backends.engine import Engine
from domains.inference.jobs import Companion, GenerationJob, ImagePromptPictures
from domains.inference.types import ImagePrompt, PrecisionMode
from domains.model.types import ModelType
from domains.picture.types import PreparedPicture
from domains.values import ModelPlace
from tests.accelerator.test_step_graphs import (
    WORK,
    drawn,
    engine,
    latents,
    plainly,
    the_model,
)
from tests.domains.inference.backends.test_image_to_image import painting
from tests.domains.model.image_prompts import KINDS, adapter_file, encoder_folder
from tests.fakes.jobs import changed

__all__ = ["engine", "latents"]  # fixtures
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image-prompts")
    encoder_folder(folder / "encoder")
    for kind in KINDS:
        adapter_file(folder / f"{kind}.safetensors", kind)
    return folder


def looking(models: Path, kind: str, scale: float, precision: PrecisionMode) -> GenerationJob:
    """The work with a picture as a prompt."""
    picture, path = painting(300, 240), models / "picture"
    path.write_bytes(picture.tobytes())
    sha256 = hashlib.sha256(picture.tobytes()).hexdigest()
    adapter = ModelPlace.of(models / f"{kind}.safetensors")
    return changed(
        WORK,
        precision=precision,
        image_prompts=(ImagePrompt(kind, "encoder", scale),),
        image_prompt_pictures=(
            ImagePromptPictures((PreparedPicture(path, *picture.size, sha256),)),
        ),
        companions=(
            Companion(kind, ModelType.IMAGE_PROMPT_ADAPTER, adapter),
            Companion("encoder", ModelType.IMAGE_ENCODER, ModelPlace.of(models / "encoder")),
        ),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_replayed_with_the_bits_of_plain_steps(
    engine: Engine, latents: list[torch.Tensor], models: Path, kind: str
) -> None:
    job = looking(models, kind, 0.7, PrecisionMode.EXACT)
    before, _ = drawn(engine, WORK)
    assert drawn(engine, job)[1]
    count = the_model(engine).graphs.count
    assert drawn(engine, job)[1]
    assert the_model(engine).graphs.count == count
    assert drawn(engine, WORK)[0] == before
    plainly(engine, job)
    without, first, second, _, wanted = latents

    assert torch.equal(first, wanted)
    assert torch.equal(second, wanted)
    assert not torch.equal(without, wanted)
