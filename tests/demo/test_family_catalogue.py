"""What the server's catalogue tells of the committed artefacts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from demo.measure.pictures import MODELS
from domains.errors import Reason
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.types import Architecture, Model, ModelFormat, ModelType
from domains.model.views import ModelFilter
from tests.fakes.model import catalogue_of


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {model.model_id: model for model in DiskScanner([MODELS]).scan().models}


@pytest.mark.parametrize(
    ("name", "type", "architecture", "triggers"),
    [
        ("emoji-xl", ModelType.CHECKPOINT, Architecture.SDXL, ()),
        ("emoji-comic", ModelType.CHECKPOINT, Architecture.SDXL, ()),
        ("line-art", ModelType.LORA, Architecture.SDXL, ("line art style",)),
        ("pixel-art", ModelType.LORA, Architecture.SDXL, ("pixel art style",)),
        ("emoji-canny", ModelType.CONTROL_NET, Architecture.SDXL, ()),
        ("emoji-refiner", ModelType.REFINER, Architecture.SDXL, ()),
        ("emoji-sd1", ModelType.CHECKPOINT, Architecture.SD1, ()),
        ("emoji-vae", ModelType.VAE, Architecture.SDXL, ()),
        ("emoji-embedding", ModelType.EMBEDDING, Architecture.SDXL, ("<far>",)),
        ("compact-4x", ModelType.UPSCALER, None, ()),
        ("compact-2x", ModelType.UPSCALER, None, ()),
    ],
)
def test_each_artefact_is_what_it_says(name, type, architecture, triggers, models):
    model = models[name]
    assert (model.type, model.architecture) == (type, architecture)
    assert model.trigger_words == triggers
    assert model.license == "MIT"
    assert model.description


def test_no_artefact_is_there_that_the_catalogue_does_not_know(models):
    assert all(model.type is not None for model in models.values())
    assert sum(model.size_bytes for model in models.values()) < 150_000_000


async def test_who_names_no_model_gets_the_base():
    """Also once other checkpoints can be drawn with: the first picture must not change."""
    catalogue = catalogue_of(DiskScanner([MODELS]), clock=lambda: datetime.now(UTC))
    assert (await catalogue.get("")).model_id == "emoji-xl"
    page = await catalogue.list(ModelFilter())
    assert [model.model_id for model in page.items if model.is_default] == ["emoji-xl"]


def test_a_pickle_is_listed_and_not_opened(tmp_path: Path):
    torch.save(load_file(MODELS / "compact-2x.safetensors"), tmp_path / "compact-2x.ckpt")
    shutil.copy(MODELS / "compact-4x.safetensors", tmp_path)
    found = {model.model_id: model for model in DiskScanner([tmp_path]).scan().models}
    pickle = found["compact-2x"]
    assert pickle.format is ModelFormat.PICKLE
    assert pickle.type is None
    assert pickle.problem is not None
    assert pickle.problem.reason is Reason.MODEL_UNSAFE_PICKLE
    assert found["compact-4x"].type is ModelType.UPSCALER
