"""Files with the names and shapes of real ones become networks of the libraries, whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from domains.model.backends.component import plan_component
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.networks import build_empty
from domains.model.backends.plans import plan_model
from tests.domains.model.corpus.kinds import write
from tests.domains.model.disk import files_at

CHECKPOINTS = (
    *("sdxl", "sdxl-refiner", "sdxl-unet-ssd-1b", "sdxl-unet-vega", "sdxl-unet-koala-700m"),
    *("sdxl-unet-koala-1b", "sd1", "sd1-ema", "sd2"),
)
NETWORKS = (
    *("control-sd1", "control-sd2", "control-sdxl", "control-sdxl-mid", "control-sdxl-small"),
    *("control-sd1-original", "control-sd2-original", "control-sdxl-original"),
    *("vae", "vae-original", "vae-ema", "vae-loss", "vae-cut-out", "vae-old-attention"),
    *("clip-l", "clip-l-extras", "openclip-h", "openclip-h-original", "openclip-g"),
    *("openclip-g-original", "openclip-h-23"),
)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(tmp_path: Path, name: str) -> None:
    """Every tensor has its place in a network of the derived configuration."""
    path = write(tmp_path, name)
    for network in plan_model(files_at(path)).networks:
        build_empty(network)
    (model,) = DiskScanner([tmp_path]).scan().models
    assert model.usable, model.problem


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_alone(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    build_empty(plan_component(files_at(path)))
    (model,) = DiskScanner([tmp_path]).scan().models
    assert model.usable, model.problem
    assert model.components


def test_no_numbers_are_drawn_for_weights_that_come_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(network: object) -> None:
        raise AssertionError("numbers are drawn")

    monkeypatch.setattr(transformers.PreTrainedModel, "init_weights", draw)
    build_empty(plan_component(files_at(write(tmp_path, "clip-l"))))
    # The library draws as ever for anybody else in the process.
    assert transformers.PreTrainedModel.init_weights is draw
