"""Checkpoints without a VAE: drawn with the one that a request names, as the whole model is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from demo.train.layouts.metadata import header
from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.engine import Engine
from domains.inference.jobs import Companion
from domains.inference.types import PrecisionMode
from domains.model.jobs import LoadJob
from domains.model.types import ModelType
from domains.session.types import PreviewSettings
from domains.values import ModelPart, ModelPlace
from tests.domains.inference.backends.conftest import MODEL, Drawn
from tests.domains.model.disk import edit
from tests.domains.model.originals import sdxl_file
from tests.fakes.jobs import Listener, changed

VAE = MODEL.parent / "emoji-vae.safetensors"
SMALL = {"width": 128, "height": 128, "steps": 2}
Draw = Callable[..., Drawn]


def using(path: Path) -> dict[str, Any]:
    """A VAE that a request names."""
    companion = Companion("lent", ModelType.VAE, ModelPlace.of(path))
    return {"vae_model_id": "lent", "companions": (companion,)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as one file, without its VAE."""
    path = tmp_path_factory.mktemp("files") / "bare.safetensors"
    tensors = load_file(sdxl_file(path, MODEL))
    bare = {name: each for name, each in tensors.items() if "first_stage_model." not in name}
    named = header(
        title="t",
        architecture="stable-diffusion-xl-v1-base",
        description="d",
        configuration="emoji-xl",
    )
    save_file(bare, path, named)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder."""
    path = tmp_path_factory.mktemp("folders") / "bare"
    shutil.copytree(MODEL, path, ignore=shutil.ignore_patterns("vae"))
    edit(path / "model_index.json", vae=[None, None])
    return path


@pytest.fixture(params=["file", "folder"])
def bare(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("vae", [MODEL / "vae", VAE], ids=["its own", "another"])
def test_it_draws_what_the_whole_model_draws_with_that_vae(
    draw: Draw, bare: Path, vae: Path
) -> None:
    whole = draw(**using(vae), **SMALL, previews=PreviewSettings(1))
    lent = draw(model_path=bare, **using(vae), **SMALL, previews=PreviewSettings(1))
    assert np.array_equal(lent.pixels[0], whole.pixels[0])
    assert lent.previews == whole.previews
    assert lent.report.data_types == whole.report.data_types


def test_numbers_are_measured_without_one_too(work: Any, file: Path) -> None:
    settings = {**SMALL, "width": 64, "height": 64, "precision": PrecisionMode.FASTEST}
    heard = Listener()
    report = Engine("cpu").generate(
        changed(work, model_path=file, **using(VAE), **settings), heard
    )
    assert report.timings.load > 0
    assert any(each.part is ModelPart.VAE for each in report.data_types)


def test_without_one_it_is_refused_by_the_field(draw: Draw, file: Path) -> None:
    """A file that lost its VAE after the request was accepted."""
    with pytest.raises(FailedPrecondition) as refused:
        draw(model_path=file, **SMALL)
    assert refused.value.reason is Reason.MODEL_INCOMPLETE
    assert refused.value.metadata["field"] == "settings.vae_model_id"


def test_it_is_loaded_and_warmed_up_as_far_as_it_goes(file: Path) -> None:
    engine = Engine("cpu")
    job = LoadJob("bare", ModelPlace.of(file), warm_up=True)
    report = engine.load(job, Listener())
    assert {part.component for part in report.loaded} == {
        "unet",
        "text_encoder",
        "text_encoder_2",
    }
