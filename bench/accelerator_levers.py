"""What each lever brings to the compiled step of SDXL's UNet at full shape: ways of asking the
compiler and ways of laying out the network, 1024x1024 with guidance, replayed as graphs.

`python -m bench.accelerator_levers FOLDER [--ways NAME ...]` compiles the named ways at once,
each in a process of its own, and times one after another; those that try kernels on the card
are best asked for alone. A line of JSON for each. Numbers are random; differences are norms
over that of the plain float16 step's result. No way is part of the product by itself.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.accelerator_artifacts import _arguments
from bench.accelerator_compiling import _TFLOP, _difference, _inputs, _replayed, _unet

_FP8 = torch.float8_e4m3fn
_MOST_FP8 = torch.finfo(_FP8).max
_AUTOTUNE: dict[str, Any] = {
    "max_autotune_gemm": True,
    "max_autotune_gemm_backends": "ATEN,TRITON",
    "max_autotune_conv_backends": "ATEN",
    "triton.enable_persistent_tma_matmul": True,
}
# What is done to the network, and what the compiler is asked.
_WAYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "compiled": ((), {}),
    "texts once": (("texts",), {}),
    "channels last, texts once": (("texts", "channels_last"), {}),
    "queries, keys and values as one": (("texts", "fused"), {}),
    "products tried": (("texts",), _AUTOTUNE),
    "channels last, products tried": (("texts", "channels_last"), _AUTOTUNE),
    "8-bit products": (("texts", "fp8"), {}),
    "8-bit products tried": (("texts", "fp8"), _AUTOTUNE),
}


class _TextsOnce:
    """Attends to texts whose keys and values were computed before the first step."""

    def __init__(self, place: int, given: list[torch.Tensor]) -> None:
        self.place, self.given = place, given

    def __call__(self, attention: Any, hidden_states: Any, *_: Any, **__: Any) -> Any:
        key, value = self.given[2 * self.place : 2 * self.place + 2]
        query = attention.to_q(hidden_states)

        def heads(each: torch.Tensor) -> torch.Tensor:
            return each.view(*each.shape[:2], attention.heads, -1).transpose(1, 2)

        attended = nn.functional.scaled_dot_product_attention(
            heads(query), heads(key), heads(value)
        )
        return attention.to_out[0](attended.transpose(1, 2).flatten(2))


class _EightBits(nn.Module):
    """A product with the numbers of both sides in 8 bits, each scaled by one fixed number."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.weight: torch.Tensor
        self.weight_scale: torch.Tensor
        self.scale: torch.Tensor
        scale = weight.abs().max().float() / _MOST_FP8
        self.register_buffer("weight", (weight / scale).clamp(-_MOST_FP8, _MOST_FP8).to(_FP8))
        self.register_buffer("weight_scale", scale)
        self.register_buffer("scale", torch.ones((), device=weight.device))
        self.bias = linear.bias
        self.most = torch.zeros((), device=weight.device)
        self.calibrating = True
        self.plain: nn.Linear | None = linear

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if self.calibrating:
            assert self.plain is not None
            self.most = torch.maximum(self.most, given.abs().max().float())
            plain: torch.Tensor = self.plain(given)
            return plain
        rows = (given * (1 / self.scale).to(given.dtype)).clamp(-_MOST_FP8, _MOST_FP8)
        made: torch.Tensor = torch._scaled_mm(
            rows.to(_FP8).flatten(0, -2),
            self.weight.t(),
            self.scale,
            self.weight_scale,
            bias=self.bias,
            out_dtype=given.dtype,
            use_fast_accum=True,
        )
        return made.view(*given.shape[:-1], -1)


def _in_eight_bits(network: nn.Module) -> list[_EightBits]:
    made = []
    for name, module in list(network.named_modules()):
        if (
            isinstance(module, nn.Linear)
            and "transformer_blocks" in name
            and not ("attn2.to_k" in name or "attn2.to_v" in name)
        ):
            parent, _, last = name.rpartition(".")
            each = _EightBits(module)
            setattr(network.get_submodule(parent), last, each)
            made.append(each)
    return made


class _Step(nn.Module):
    """A UNet whose inputs are all given by place."""

    def __init__(self, network: Any, keys_and_values: list[torch.Tensor] | None) -> None:
        super().__init__()
        self.network, self._given = network, keys_and_values

    def forward(self, sample: Any, timestep: Any, hidden: Any, added: Any, given: Any) -> Any:
        if self._given is not None:
            self._given[:] = given
        return self.network(
            sample,
            timestep,
            encoder_hidden_states=hidden,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other way is timed meanwhile."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepared(changes: tuple[str, ...]) -> tuple[_Step, tuple[Any, ...], torch.Tensor, float]:
    """The step, its inputs, what plain code gives, and its milliseconds."""
    last = "channels_last" in changes
    given = _inputs(torch.float16, channels_last=False)
    given.pop("return_dict")
    network = _unet(torch.float16, channels_last=False)
    took, result = _replayed(lambda: network(**given, return_dict=False)[0])
    wanted = result.clone()
    if last:
        network.to(memory_format=torch.channels_last)
        given["sample"] = given["sample"].contiguous(memory_format=torch.channels_last)
    made: list[torch.Tensor] | None = None
    if "fp8" in changes:
        layers = _in_eight_bits(network)
        network(**given, return_dict=False)
        for each in layers:
            each.scale.copy_(each.most / _MOST_FP8)
            each.calibrating, each.plain = False, None
    if "texts" in changes:
        made, processors = [], dict(network.attn_processors)
        texts = given["encoder_hidden_states"]
        for name in processors:
            attention = network.get_submodule(name.removesuffix(".processor"))
            if ".attn2" in name:
                processors[name] = _TextsOnce(len(made) // 2, made)
                made += [attention.to_k(texts), attention.to_v(texts)]
        if "fused" in changes:
            from diffusers.models.attention_processor import FusedAttnProcessor2_0

            for name in processors:
                if ".attn1" in name:
                    attention = network.get_submodule(name.removesuffix(".processor"))
                    attention.fuse_projections()
                    processors[name] = FusedAttnProcessor2_0()  # type: ignore[no-untyped-call]
        network.set_attn_processor(processors)
    inputs = (*given.values(), list(made or ()))
    return _Step(network, made), inputs, wanted, took


def measure(way: str, folder: Path) -> dict[str, Any]:
    """Compile one way and time it."""
    changes, options = _WAYS[way]
    with _alone(folder):
        module, inputs, wanted, plain = _prepared(changes)
    torch.cuda.empty_cache()
    began = time.perf_counter()
    program = torch.export.export(module, inputs, strict=False)
    exported = time.perf_counter()
    names = [spec.target for spec in program.graph_signature.input_specs]
    arguments = _arguments(module, names, inputs)
    run: Callable[..., Any] = torch._inductor.standalone_compile(
        program.graph_module,
        arguments,
        dynamic_shapes="from_example_inputs",
        options={"config_patches": {"layout_optimization": False} | options},
    )
    run(*arguments)
    torch.cuda.synchronize()
    compiled = time.perf_counter()
    with _alone(folder):
        took, result = _replayed(lambda: run(*arguments)[0])
    return {
        "plain_ms": plain,
        "ms": took,
        "tflops": _TFLOP / took * 1000,
        "export_s": exported - began,
        "compile_s": compiled - exported,
        "difference": _difference(result, wanted),
    }


def main(arguments: list[str]) -> int:
    """Measure the ways that are named, or one of them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_levers", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where compiled code is kept.")
    parser.add_argument("--ways", nargs="+", default=list(_WAYS), choices=list(_WAYS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=500, help="End all after that.")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one is not None:
        with torch.no_grad():
            found = measure(given.one, given.folder)
        rounded = {key: round(value, 5) for key, value in found.items()}
        print(json.dumps({"way": given.one} | rounded), flush=True)
        return 0
    itself = [sys.executable, "-m", "bench.accelerator_levers", str(given.folder), "--one"]
    running = []
    for way in given.ways:
        folder = given.folder / way.replace(" ", "-").replace(",", "")
        cache = f"TORCHINDUCTOR_CACHE_DIR={folder}"
        running.append(subprocess.Popen(["env", cache, *itself, way]))
    end = time.monotonic() + given.seconds
    for each in running:
        try:
            each.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
