"""Face restorers from files: GFPGAN's numbers, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from domains.chain.backends.restoring.loading import load_restorer
from domains.errors import Cancelled, FailedPrecondition, Reason
from domains.picture.backends.carried.figure import figure
from domains.values import ModelPlace
from tests.domains.chain.backends.restoring.files import (
    CPU,
    loaded,
    random_restorer,
    saved,
)
from tests.domains.chain.backends.upscaling.files import small_compact
from tests.domains.model.corpus.gfpgan import narrow

# What GFPGAN's own source (gfpgan 1.3.8, GFPGANv1Clean with narrow=1/32, 16 numbers of a style
# and 2 layers of a mapping) makes of the drawn person with the weights of `random_restorer`:
# every 128th pixel from the 64th on, 0 to 1 as our network has it.
OF_GFPGAN = """
140.1193 -745.8216 -542.7376 -1610.0248
-20.511515 -1631.9135 -1002.8184 -3435.4553
64.4216 -335.58847 -60.46656 -895.57806
-226.45267 -1043.475 -1219.9849 -1261.2175
-43.980297 -415.40933 -384.44177 -902.6893
-178.43756 -805.04645 -587.5529 -1524.7355
-140.1368 -149.1952 -33.945507 -445.86484
-294.6228 -675.23883 -617.5001 -599.65497
106.583534 3.776642 7.224138 46.668587
9.091705 -219.45425 -184.63823 -423.844
17.663298 -158.54605 -77.566 -235.19003
19.190727 -38.416527 -66.71351 -135.1068
"""


@pytest.mark.parametrize("prefix", ["", "params_ema."])
def test_a_face_is_what_gfpgans_own_source_makes_of_it(tmp_path: Path, prefix: str) -> None:
    restorer = loaded(random_restorer(), tmp_path, prefix)
    face = torch.from_numpy(figure(512)).permute(2, 0, 1)[None] / 255

    made = restorer.network(face)

    wanted = np.array(OF_GFPGAN.split(), np.float32).reshape(3, 4, 4)
    assert made.shape == (1, 3, 512, 512)
    assert made[0, :, 64::128, 64::128].numpy() == pytest.approx(wanted, rel=1e-3, abs=0.05)
    assert restorer.architecture == "GFPGAN"
    assert restorer.weight_bytes == 4 * sum(np.prod(shape) for shape in narrow().values())


def refusal(path: Path) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        load_restorer(ModelPlace.of(path), CPU)
    return caught.value


def test_what_is_no_face_restorer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "upscaler.safetensors"
    save_file(small_compact(), path)
    error = refusal(path)
    assert error.reason is Reason.MODEL_INCOMPATIBLE
    assert error.metadata == {"type": "upscaler"}


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    tensors = random_restorer()
    tensors["final_conv.bias"][1] = torch.nan
    error = refusal(saved(tensors, tmp_path))
    assert error.reason is Reason.MODEL_NON_FINITE
    assert error.metadata["tensor"] == "final_conv.bias"


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    def stop(_count: int) -> None:
        raise Cancelled("enough")

    path = saved(random_restorer(), tmp_path)
    with pytest.raises(Cancelled):
        load_restorer(ModelPlace.of(path), CPU, on_bytes=stop)


# Recognised as a face restorer of a kind that is not built in.
_CODEFORMER = (
    "position_emb",
    "quantize.embedding.weight",
    "ft_layers.0.self_attn.in_proj_weight",
)
FOREIGN = {name: torch.ones(1) for name in _CODEFORMER}


class Descriptor:
    """What spandrel gives."""

    def __init__(self, scale: int = 1) -> None:
        self.model = nn.Linear(1, 1)
        self.scale, self.input_channels, self.output_channels = scale, 3, 3
        self.architecture = SimpleNamespace(name="CodeFormer")

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels / 2


def library(answer: Any) -> ModuleType:
    class UnsupportedModelError(Exception):
        pass

    class ModelLoader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, tensors: dict[str, torch.Tensor]) -> Any:
            assert tensors.keys() == FOREIGN.keys()
            if answer is None:
                raise UnsupportedModelError
            return answer

    made: Any = ModuleType("spandrel")
    made.ModelLoader, made.UnsupportedModelError = ModelLoader, UnsupportedModelError
    made.ImageModelDescriptor = Descriptor
    return made


def test_another_kind_needs_spandrel_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    error = refusal(saved(FOREIGN, tmp_path))
    assert error.reason is Reason.MODEL_INCOMPATIBLE
    assert error.metadata == {"kind": "CodeFormer"}
    assert "[upscale]" in error.message


def test_another_kind_by_spandrel_and_what_else_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[bool] = []
    more: Any = ModuleType("spandrel_extra_arches")
    more.install = lambda ignore_duplicates: installed.append(ignore_duplicates)
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", more)
    monkeypatch.setitem(sys.modules, "spandrel", library(Descriptor()))

    restorer = load_restorer(ModelPlace.of(saved(FOREIGN, tmp_path)), CPU)

    assert installed == [True]
    assert restorer.architecture == "CodeFormer"
    assert float(restorer.network(torch.ones(1, 3, 4, 4)).max()) == 0.5
    assert restorer.weight_bytes == 8


@pytest.mark.parametrize("answer", [None, object(), Descriptor(scale=2)])
def test_what_spandrel_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", library(answer))
    assert refusal(saved(FOREIGN, tmp_path)).reason is Reason.MODEL_INCOMPATIBLE
