"""What a loaded model is said to hold follows what is done to its networks."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import torch
from torch import nn

from domains.inference.backends import loaded
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.wanted import WantedModel
from domains.model.backends.bounds import Config
from domains.values import ModelPlace, TensorDataType


class Holding(Loaded):
    """Nothing but its networks."""

    def wanted(self) -> WantedModel:
        raise AssertionError("nobody loads it again")

    def plan_config(self, network: str) -> Config:
        raise AssertionError("it has none")

    def widen_vae(self) -> bool:
        return False


def holding(**networks: nn.Module) -> Holding:
    place = ModelPlace.of(Path("/nowhere"))
    return Holding(
        model_id="m",
        place=place,
        fingerprint=(),
        device=torch.device("cpu"),
        networks=networks,
    )


def told(model: Loaded) -> dict[str, tuple[int | None, TensorDataType | None]]:
    return {each.component: (each.size.value, each.data_type) for each in model.components()}


def test_sizes_and_types_follow_changes() -> None:
    whole, half = TensorDataType.FLOAT32, TensorDataType.FLOAT16
    model = holding(unet=nn.Linear(4, 4, bias=False), vae=nn.Linear(2, 2, bias=False))
    assert told(model) == {
        "unet": (64, whole),
        "vae": (16, whole),
    }
    model.networks["unet"].to(torch.float16)
    assert told(model) == {
        "unet": (32, half),
        "vae": (16, whole),
    }
    model.networks["vae"] = nn.Linear(3, 3, bias=False)
    assert told(model)["vae"] == (36, whole)
    gone = weakref.ref(model.networks.pop("unet"))
    gc.collect()
    assert gone() is None, "what was counted is not kept"
    assert told(model) == {"vae": (36, whole)}


def test_what_stays_is_counted_once(monkeypatch) -> None:
    walked: list[nn.Module] = []
    walk = loaded.modules_of
    monkeypatch.setattr(loaded, "modules_of", lambda one: walked.append(one) or walk(one))
    model = holding(unet=nn.Linear(4, 4), vae=nn.Linear(2, 2))
    assert told(model) == told(model) == told(model)
    assert len(walked) == 2


def test_mixed_types_are_none() -> None:
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).half())
    assert told(holding(unet=mixed))["unet"][1] is None
