"""Image prompts on a card: steps that attend to them are replayed, with plain ones' bits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from tests.domains.model.image_prompts import KINDS, PLAIN, adapter_file, encoder_folder
from tests.fakes.jobs import changed

__all__ = ["engine", "latents"]  # fixtures
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image-prompts")
    encoder_folder(folder / "encoder")
    for kind in KINDS:
        adapter_file(folder / f"{kind}.safetensors", kind)
    for seed, name in enumerate("AB"):
        adapter_file(folder / f"{name}.safetensors", PLAIN, seed)
    return folder


def looking(
    models: Path, kinds: Sequence[str], scale: float, precision: PrecisionMode
) -> GenerationJob:
    """The work with a picture as a prompt, once for each of the adapters."""
    picture, path = painting(300, 240), models / "picture"
    path.write_bytes(picture.tobytes())
    sha256 = hashlib.sha256(picture.tobytes()).hexdigest()
    adapters = {kind: ModelPlace.of(models / f"{kind}.safetensors") for kind in kinds}
    return changed(
        WORK,
        precision=precision,
        image_prompts=tuple(ImagePrompt(kind, "encoder", scale) for kind in kinds),
        image_prompt_pictures=(
            ImagePromptPictures((PreparedPicture(path, *picture.size, sha256),)),
        )
        * len(kinds),
        companions=(
            *(
                Companion(kind, ModelType.IMAGE_PROMPT_ADAPTER, adapter)
                for kind, adapter in adapters.items()
            ),
            Companion("encoder", ModelType.IMAGE_ENCODER, ModelPlace.of(models / "encoder")),
        ),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_replayed_with_the_bits_of_plain_steps(
    engine: Engine, latents: list[torch.Tensor], models: Path, kind: str
) -> None:
    job = looking(models, [kind], 0.7, PrecisionMode.EXACT)
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


def test_they_know_which_prompt_has_which_adapter(
    engine: Engine, latents: list[torch.Tensor], models: Path
) -> None:
    jobs = [looking(models, kinds, 0.7, PrecisionMode.EXACT) for kinds in ("AAB", "ABB", "ABA")]
    for job in jobs:
        assert drawn(engine, job)[1]
    for job in jobs:
        plainly(engine, job)

    assert all(map(torch.equal, latents[:3], latents[3:]))
    assert len({each.cpu().numpy().tobytes() for each in latents}) == 3
