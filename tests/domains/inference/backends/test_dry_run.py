"""Networks are run without numbers before their weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.dry_run import try_networks
from domains.model.backends.diffusers_folder import inspect_folder
from domains.model.backends.library_errors import blamed_on
from domains.model.backends.networks import build_empty
from tests.domains.model.disk import DEMO, files_at
from tests.fakes.tiny_models import save_sd1


def parts(folder: Path) -> tuple[dict[str, torch.nn.Module], dict[str, Any]]:
    plans = inspect_folder(files_at(folder)).networks
    modules = {plan.name: build_empty(plan).module for plan in plans}
    return modules, {plan.name: dict(plan.config) for plan in plans}


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd1(tmp_path_factory.mktemp("models") / "sd1")


def test_sound_networks_pass(sd1: Path) -> None:
    try_networks(*parts(DEMO))
    try_networks(*parts(sd1))


@pytest.mark.parametrize(
    ("component", "change"),
    [
        ("unet", lambda unet, _vae: setattr(unet, "conv_in", torch.nn.Identity())),
        ("unet", lambda unet, _vae: setattr(unet.mid_block, "resnets", None)),
        ("unet", lambda unet, _vae: setattr(unet, "conv_out", torch.nn.Identity())),
        ("vae", lambda _unet, vae: setattr(vae, "decoder", torch.nn.Identity())),
        ("vae", lambda _unet, vae: setattr(vae, "encoder", None)),
    ],
)
def test_what_does_not_work_together_is_told_by_its_name(
    sd1: Path, component: str, change: Any
) -> None:
    modules, configs = parts(sd1)
    change(modules["unet"], modules["vae"])
    with pytest.raises(FailedPrecondition) as caught:
        try_networks(modules, configs)
    assert caught.value.reason is Reason.MODEL_CONFIG_INVALID
    assert caught.value.metadata["component"] == component


class Panic(BaseException):
    """As compiled code in Rust ends a call."""


Panic.__module__ = "pyo3_runtime"


@pytest.mark.parametrize("error", [Exception("x"), RuntimeError(), AttributeError(), Panic()])
def test_whatever_a_library_raises_is_the_models_fault(error: BaseException) -> None:
    with pytest.raises(FailedPrecondition) as caught, blamed_on("vae", "config.json"):
        raise error
    assert caught.value.metadata == {
        "component": "vae",
        "file": "vae/config.json",
        "cause": type(error).__name__,
    }


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        KeyboardInterrupt(),
        FailedPrecondition("x", reason=Reason.MODEL_SHAPE_INVALID),
    ],
)
def test_what_is_something_else_stays_so(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, blamed_on("vae"):
        raise error
    assert caught.value is error
