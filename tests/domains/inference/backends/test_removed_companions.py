"""A model beside the checkpoint that is gone by the time the work begins is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domains.errors import DomainError, Reason
from domains.inference.jobs import Companion
from domains.inference.types import (
    GuidanceSettings,
    LoraWeight,
    Refiner,
    SdxlSettings,
    SecondPass,
    SecondPassUpscale,
)
from domains.model.types import ModelType
from domains.values import ModelPlace

SECOND_PASS = SecondPass(
    upscale=SecondPassUpscale.MODEL,
    steps=4,
    guidance=GuidanceSettings(),
    postprocessor_id="gone",
)
REFINER = Refiner("gone", steps=4, guidance=GuidanceSettings())


@pytest.mark.parametrize(
    ("type", "settings"),
    [
        (ModelType.VAE, {"vae_model_id": "gone"}),
        (ModelType.LORA, {"loras": (LoraWeight("gone", 1.0, 1.0),)}),
        (ModelType.REFINER, {"sdxl": SdxlSettings(refiner=REFINER)}),
        (ModelType.UPSCALER, {"second_pass": SECOND_PASS}),
    ],
)
def test_it_is_named(
    draw: Any, engine: Any, tmp_path: Path, type: ModelType, settings: dict[str, Any]
) -> None:
    gone = Companion("gone", type, ModelPlace.of(tmp_path / "gone.safetensors"))
    with pytest.raises(DomainError) as refused:
        draw(width=64, height=64, steps=4, companions=(gone,), **settings)

    assert refused.value.reason is Reason.MODEL_NOT_FOUND
    assert refused.value.metadata["model_id"] == "gone"
    assert not any(part.in_use for part in engine.held())
