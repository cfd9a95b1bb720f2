"""LoRAs held against a checkpoint by their headers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from domains.errors import Reason
from domains.inference.backends.lora_fit import LoraFits
from domains.inference.errors import LoraRefused
from domains.model.types import FileState, Model, ModelFormat, ModelType
from domains.values import ModelPlace
from tests.domains.inference.backends.conftest import MODEL
from tests.domains.inference.backends.test_loras import UNET, random_pair

LINES = MODEL.parent / "line-art.safetensors"


def model(path: Path, type: ModelType = ModelType.LORA, size: int = 1) -> Model:
    return Model(
        model_id=path.stem,
        name=path.stem,
        type=type,
        architecture=None,
        format=ModelFormat.SAFETENSORS,
        place=ModelPlace.of(path),
        size_bytes=size,
        modified_at=datetime(2030, 1, 1, tzinfo=UTC),
        weights=(FileState("", size, 1),),
    )


CHECKPOINT = model(MODEL, ModelType.CHECKPOINT)


def test_what_a_worker_applies_fits() -> None:
    LoraFits().check(model(LINES), CHECKPOINT)


def test_text_encoders_are_known_by_the_names_of_files(tmp_path: Path) -> None:
    layer = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    path = tmp_path / "text.safetensors"
    from tests.domains.model.disk import DEMO

    weights = next((DEMO / "text_encoder").glob("*.safetensors"))
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        name = next(n for n in file.keys() if n.endswith("layers.0.mlp.fc1.weight"))  # noqa: SIM118
        shape = tuple(file.get_slice(name).get_shape())
    save_file(random_pair(layer, shape, 2, 1.0, 0), path)

    LoraFits().check(model(path), CHECKPOINT)


@pytest.mark.parametrize(
    ("tensors", "reason", "named"),
    [
        (random_pair(UNET, (7, 7, 3, 3), 2, 1.0, 0), Reason.MODEL_INCOMPATIBLE, "conv1"),
        (
            random_pair("lora_unet_down_blocks_9_resnets_0_conv1", (8, 8, 3, 3), 2, 1.0, 0),
            Reason.MODEL_INCOMPATIBLE,
            "down_blocks.9",
        ),
        (
            {f"{UNET}.lora_down.weight": torch.zeros(2, 4, 3, 3)},
            Reason.MODEL_INCOMPLETE,
            "conv1",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_layer(
    tmp_path: Path, tensors: dict[str, torch.Tensor], reason: Reason, named: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path)

    with pytest.raises(LoraRefused) as refused:
        LoraFits().check(model(path), CHECKPOINT)

    assert refused.value.reason is reason
    assert named in refused.value.metadata["tensor"]
    assert refused.value.metadata["model_id"] == "odd"


def test_files_are_read_once_while_they_are_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(random_pair(UNET, (7, 7, 3, 3), 2, 1.0, 0), path)
    fits, asked = LoraFits(), model(path)
    with pytest.raises(LoraRefused):
        fits.check(asked, CHECKPOINT)
    path.write_bytes(LINES.read_bytes())

    with pytest.raises(LoraRefused):  # as far as the catalogue knows, it is the same
        fits.check(asked, CHECKPOINT)
    fits.check(replace(asked, weights=(FileState("", 2, 2),)), CHECKPOINT)
