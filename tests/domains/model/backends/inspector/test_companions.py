"""A check of a LoRA or an embedding names the layers that are not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.errors import Reason
from domains.model.backends.inspector.inspection import inspect
from domains.model.jobs import InspectJob
from domains.model.views import ValidationDepth
from domains.values import ModelPlace
from tests.domains.model.backends.inspector.context import Told
from tests.domains.model.disk import DEMO, write_safetensors

LAYER = "lora_unet_mid_block_attentions_0_proj_in"


@pytest.mark.parametrize("name", ["line-art", "pixel-art", "emoji-embedding", "emoji-vae"])
def test_nothing_is_wrong_with_the_demo_files(name: str) -> None:
    place = ModelPlace.of(DEMO.parent / f"{name}.safetensors")

    report = inspect(InspectJob(name, place, ValidationDepth.HEADER), Told())

    assert report.findings == ()


def test_half_a_pair_is_named_with_its_layer(tmp_path: Path) -> None:
    half: dict[str, tuple[int, ...]] = {f"{LAYER}.lora_down.weight": (4, 8)}
    path = write_safetensors(tmp_path / "half.safetensors", half)

    report = inspect(InspectJob("half", ModelPlace.of(path), ValidationDepth.HEADER), Told())

    assert [(found.reason, found.tensor) for found in report.findings] == [
        (Reason.MODEL_INCOMPLETE, LAYER)
    ]
