"""Another VAE in the place of the checkpoint's own: as diffusers, and gone afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from domains.errors import FailedPrecondition, Reason
from domains.inference.jobs import Companion
from domains.model.backends.component import plan_component
from domains.model.backends.networks import build_empty, fill
from domains.model.types import ModelType
from domains.session.types import PreviewSettings
from domains.values import ModelPart, ModelPlace
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_oracle import same
from tests.domains.model.disk import files_at

VAE = MODEL.parent / "emoji-vae.safetensors"
SMALL = {"width": 128, "height": 128, "steps": 2}
REFERENCE = {"width": 128, "height": 128, "num_inference_steps": 2}


def using(path: Path) -> dict[str, Any]:
    """A VAE instead of the checkpoint's."""
    companion = Companion("other", ModelType.VAE, ModelPlace.of(path))
    return {"vae_model_id": "other", "companions": (companion,)}


@pytest.fixture
def exchanged(pipeline, reference):
    """Pictures of the reference pipeline with the other VAE."""
    own = pipeline.vae
    pipeline.vae = fill(
        build_empty(plan_component(files_at(VAE))),
        data_type=torch.float32,
        device=torch.device("cpu"),
        on_bytes=lambda _: None,
    )
    yield reference
    pipeline.vae = own


def test_pictures_are_decoded_by_it(draw, exchanged) -> None:
    same(draw(**using(VAE), **SMALL), exchanged(**REFERENCE))


def test_the_next_request_has_the_checkpoints_own(draw, reference) -> None:
    plain = draw(**SMALL)
    other = draw(**using(VAE), **SMALL, previews=PreviewSettings(1))
    assert not np.array_equal(other.pixels[0], plain.pixels[0])
    again = draw(**SMALL)
    same(again, reference(**REFERENCE))
    assert np.array_equal(again.pixels[0], plain.pixels[0])


def test_its_data_type_is_told(draw, engine) -> None:
    drawn = draw(**using(VAE), **SMALL)
    held = {part.component: part for part in engine.held() if part.model_id == "other"}
    told = {each.part: each.data_type for each in drawn.report.data_types}
    assert told[ModelPart.VAE] is held["vae"].data_type
    assert held["vae"].in_use is False


def test_one_with_other_latents_is_refused_by_name(draw, tmp_path: Path) -> None:
    """Its channels are not the model's."""
    folder = tmp_path / "vae"
    AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=8,
    ).save_pretrained(folder)
    with pytest.raises(FailedPrecondition) as caught:
        draw(**using(folder), **SMALL)
    assert caught.value.reason is Reason.MODEL_INCOMPATIBLE
    assert caught.value.metadata["field"] == "settings.vae_model_id"
    assert "8 channels" in caught.value.message
    assert "emoji-xl" in caught.value.message
