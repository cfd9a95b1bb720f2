"""Upscalers from files: they compute what the reference computes, or say why not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from demo.train.srvgg import compact_from
from domains.chain.backends.upscaling.compact import Compact
from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.backends.upscaling.rrdb import Rrdb
from domains.errors import FailedPrecondition, Reason, ResourceExhausted
from domains.model.backends.upscalers import compact, rrdb
from domains.values import ModelPlace
from tests.domains.chain.backends.upscaling.files import (
    CPU,
    MODELS,
    demo,
    loaded,
    random_weights,
    small_compact,
    small_rrdb,
)


def picture(height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("factor", [2, 4])
def test_the_demo_upscalers_compute_what_they_were_trained_as(factor):
    upscaler = demo(factor)
    assert (upscaler.factor, upscaler.architecture) == (factor, "Compact")
    wanted = compact_from(load_file(MODELS / f"compact-{factor}x.safetensors")).float()
    given = picture(9, 12)
    assert torch.equal(upscaler.network(given), wanted(given))


def test_networks_have_the_tensors_that_headers_are_held_against():
    arguments = {"channels": 3, "features": 5, "depth": 2, "factor": 3, "slopes": 1}
    same(Compact(**arguments), compact.shapes(**arguments))
    arguments = {"taken": 12, "channels": 3, "features": 5, "growth": 2, "blocks": 2}
    arguments["enlargements"] = 2
    same(Rrdb(**arguments, folded=2), rrdb.shapes(**arguments))


def same(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == shapes


def by_hand(w: dict[str, torch.Tensor], x: torch.Tensor, folded: int, ups: int) -> torch.Tensor:
    """ESRGAN as its paper's figures say it, with no module."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    def lrelu(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    if folded > 1:
        n, c, h, v = x.shape
        cut = x.reshape(n, c, h // folded, folded, v // folded, folded)
        x = cut.permute(0, 1, 3, 5, 2, 4).reshape(n, -1, h // folded, v // folded)
    first = conv("conv_first", x)
    block = first
    for name in ("body.0.rdb1", "body.0.rdb2", "body.0.rdb3"):
        parts = [block]
        for layer in (1, 2, 3, 4):
            parts.append(lrelu(conv(f"{name}.conv{layer}", torch.cat(parts, 1))))
        block = block + 0.2 * conv(f"{name}.conv5", torch.cat(parts, 1))
    x = first + conv("conv_body", first + 0.2 * block)
    for up in range(1, ups + 1):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = lrelu(conv(f"conv_up{up}", x))
    return conv("conv_last", lrelu(conv("conv_hr", x)))


@pytest.mark.parametrize(
    ("taken", "ups", "folded"), [(3, 1, 1), (3, 2, 1), (12, 2, 2), (48, 2, 4)]
)
def test_rrdb_computes_what_its_paper_says(tmp_path, taken, ups, folded):
    weights = small_rrdb(taken, ups)
    upscaler = loaded(weights, tmp_path)
    assert upscaler.unit == folded
    assert upscaler.factor == 2**ups // folded
    given = picture(8, 12)
    wanted = by_hand(weights, given, folded, ups)
    assert wanted.shape[-2:] == (8 * upscaler.factor, 12 * upscaler.factor)
    torch.testing.assert_close(upscaler.network(given), wanted, rtol=1e-5, atol=1e-6)


def trunk(name: str) -> str:
    for new, old in (("conv_body", "trunk_conv"), ("conv_hr", "HRconv"), ("conv_up", "upconv")):
        name = name.replace(new, old)
    return name.replace("body.", "RRDB_trunk.").replace(".rdb", ".RDB")


def sequence(name: str) -> str:
    if name.startswith("body."):
        block, dense, layer, end = name.removeprefix("body.").split(".")
        return f"model.1.sub.{block}.{dense.upper()}.{layer}.0.{end}"
    places = {"conv_first": "0", "conv_body": "1.sub.1", "conv_up1": "3", "conv_hr": "5"}
    top, _, end = name.partition(".")
    return f"model.{places.get(top, '7')}.{end}"


@pytest.mark.parametrize("renamed", [trunk, sequence, lambda name: f"params_ema.{name}"])
def test_other_names_are_the_same_network(tmp_path, renamed):
    weights = small_rrdb()
    given = picture(6, 7)
    wanted = loaded(weights, tmp_path).network(given)
    other = loaded({renamed(name): t for name, t in weights.items()}, tmp_path)
    assert torch.equal(other.network(given), wanted)


def refusal(path: Path, **options: Any) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        load_upscaler(ModelPlace.of(path), CPU, **options)
    return caught.value


def test_another_model_is_no_upscaler():
    assert refusal(MODELS / "line-art.safetensors").metadata["type"] == "lora"


def test_damaged_files(tmp_path):
    whole = (MODELS / "compact-2x.safetensors").read_bytes()
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(whole[:-100])
    assert refusal(path).reason is Reason.MODEL_TRUNCATED
    path.write_bytes(b"\x80\x02" + whole[2:])
    assert refusal(path).reason is not None
    path.unlink()
    assert refusal(path).reason is Reason.MODEL_INCOMPLETE
    weights = small_compact()
    del weights["body.2.weight"]
    save_file(weights, path)
    assert refusal(path).reason is Reason.MODEL_INCOMPLETE


def test_weights_that_are_no_numbers(tmp_path):
    weights = small_compact()
    weights["body.2.weight"][0, 0, 0, 0] = float("nan")
    path = tmp_path / "upscaler.safetensors"
    save_file(weights, path)
    error = refusal(path)
    assert error.reason is Reason.MODEL_NON_FINITE
    assert error.metadata == {"tensor": "body.2.weight"}


def test_weights_beyond_float16_are_kept_in_float32(tmp_path):
    weights = small_compact()
    path = tmp_path / "upscaler.safetensors"
    save_file(weights, path)
    place = ModelPlace.of(path)
    assert load_upscaler(place, CPU, torch.float16).data_type is torch.float16
    weights["body.2.weight"][0, 0, 0, 0] = 70_000.0
    save_file(weights, path)
    upscaler = load_upscaler(place, CPU, torch.float16)
    assert upscaler.data_type is torch.float32
    assert upscaler.network.body[2].weight.max() == 70_000.0


def test_memory_that_runs_out_is_a_typed_error(tmp_path, monkeypatch):
    path = tmp_path / "upscaler.safetensors"
    save_file(small_compact(), path)

    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(nn.Module, "load_state_dict", full)
    with pytest.raises(ResourceExhausted) as caught:
        load_upscaler(ModelPlace.of(path), CPU)
    assert caught.value.reason is Reason.DEVICE_OUT_OF_MEMORY


def test_a_stop_while_reading_comes_through(tmp_path):
    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "upscaler.safetensors"
    save_file(small_compact(), path)
    with pytest.raises(KeyboardInterrupt):
        load_upscaler(ModelPlace.of(path), CPU, on_bytes=stop)


# Recognised as an upscaler of a kind that is not built in.
_SPAN = ("conv_1.sk.weight", "block_1.c1_r.sk.weight", "conv_cat.weight", "upsampler.0.w")
FOREIGN = {name: torch.ones(1) for name in _SPAN}


def test_another_kind_needs_spandrel_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    path = tmp_path / "span.safetensors"
    save_file(FOREIGN, path)
    error = refusal(path)
    assert error.reason is Reason.MODEL_INCOMPATIBLE
    assert error.metadata == {"kind": "SPAN"}
    assert "[upscale]" in error.message


class Twice(nn.Module):
    """Repeats pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.repeat_interleave(2, 2).repeat_interleave(2, 3) * self.scale


class Descriptor:
    """What spandrel gives."""

    def __init__(self, channels: int = 3) -> None:
        self.model = Twice()
        self.scale, self.input_channels, self.output_channels = 2, channels, channels
        self.supports_half, self.supports_bfloat16 = False, True
        self.architecture = SimpleNamespace(name="SPAN")
        self.size_requirements = SimpleNamespace(minimum=0, multiple_of=4, square=False)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        enlarged: torch.Tensor = self.model(pixels)
        return enlarged


def library(answer: Any) -> ModuleType:
    class UnsupportedModelError(Exception):
        pass

    class ModelLoader:
        def __init__(self, device: str) -> None:
            assert device == "cpu"

        def load_from_state_dict(self, tensors: dict[str, torch.Tensor]) -> Any:
            assert tensors.keys() == FOREIGN.keys()
            if isinstance(answer, str):
                raise UnsupportedModelError if answer == "unknown" else KeyError(answer)
            return answer

    made: Any = ModuleType("spandrel")
    made.ModelLoader, made.UnsupportedModelError = ModelLoader, UnsupportedModelError
    made.ImageModelDescriptor = Descriptor
    return made


def test_another_kind_by_spandrel(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", library(Descriptor()))
    path = tmp_path / "span.safetensors"
    save_file(FOREIGN, path)
    upscaler = load_upscaler(ModelPlace.of(path), CPU, torch.float16)
    assert (upscaler.architecture, upscaler.factor, upscaler.unit) == ("SPAN", 2, 4)
    # The architecture says that it does not compute in float16.
    assert upscaler.data_type is torch.float32
    assert upscaler.network(picture(4, 4)).shape == (1, 3, 8, 8)
    assert upscaler.weight_bytes == 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("unknown", Reason.MODEL_INCOMPATIBLE),
        ("a tensor that is missing", Reason.MODEL_CONFIG_INVALID),
        (Descriptor(channels=4), Reason.MODEL_INCOMPATIBLE),
    ],
)
def test_what_spandrel_cannot_use(tmp_path, monkeypatch, answer, reason):
    monkeypatch.setitem(sys.modules, "spandrel", library(answer))
    path = tmp_path / "span.safetensors"
    save_file(FOREIGN, path)
    assert refusal(path).reason is reason


def test_grey_networks(tmp_path):
    upscaler = loaded(random_weights(compact.shapes(1, 4, 1, 2, 1)), tmp_path)
    assert upscaler.channels == 1
    assert upscaler.network(picture(3, 4, 1)).shape == (1, 1, 6, 8)
