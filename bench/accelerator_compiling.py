"""What compiled code brings a UNet's step and a VAE's decoding on a card, and what it costs.

`python -m bench.accelerator_compiling FOLDER` runs each way of compiling in a process of its
own, twice over one cache in FOLDER: the first compiles, the second finds it compiled. SDXL's
networks of full shape with random numbers, 1024x1024; calls are replayed as graphs. A line of
JSON for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from domains.inference.backends.step_graphs import CudaRecorder

_LATENTS = 128
_GUIDED = 2
_TFLOP = 13.52  # of a guided step
_REPEATS = 20

_INDUCTOR: dict[str, dict[str, Any]] = {
    "default": {},
    "conv as matmul": {"conv_1x1_as_mm": True},
    "coordinate descent": {"coordinate_descent_tuning": True, "conv_1x1_as_mm": True},
    "max-autotune": {
        "max_autotune": True,
        "coordinate_descent_tuning": True,
        "conv_1x1_as_mm": True,
        "epilogue_fusion": True,
    },
}


def _unet(data_type: torch.dtype, *, channels_last: bool) -> Any:
    from diffusers import UNet2DConditionModel

    from bench.estimates import known
    from tests.domains.model.corpus.configurations import SDXL

    torch.manual_seed(0)
    with torch.device("cuda"):
        network = UNet2DConditionModel(**known(UNet2DConditionModel, SDXL)).to(data_type).eval()
    return network.to(memory_format=torch.channels_last) if channels_last else network


def _inputs(data_type: torch.dtype, *, channels_last: bool) -> dict[str, Any]:
    generator = torch.Generator("cuda").manual_seed(1)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device="cuda", generator=generator).to(data_type)

    sample = made(_GUIDED, 4, _LATENTS, _LATENTS)
    if channels_last:
        sample = sample.contiguous(memory_format=torch.channels_last)
    return {
        "sample": sample,
        "timestep": torch.tensor(500.0, device="cuda"),
        "encoder_hidden_states": made(_GUIDED, 77, 2048),
        "added_cond_kwargs": {
            "text_embeds": made(_GUIDED, 1280).float(),
            "time_ids": torch.tensor(
                [[1024.0, 1024, 0, 0, 1024, 1024]] * _GUIDED, device="cuda"
            ),
        },
        "return_dict": False,
    }


def _milliseconds(run: Callable[[], object]) -> float:
    times = []
    for attempt in range(3 + _REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        if attempt >= 3:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def _replayed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of a call that is replayed, and what it gives."""
    for _ in range(2):
        call()
    torch.cuda.synchronize()
    replay, result = CudaRecorder(torch.device("cuda:0")).record(call)
    took = _milliseconds(replay)
    return took, result


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.float(), other.float()
    return float((one - other).norm() / other.norm())


def _exact_step() -> tuple[float, torch.Tensor]:
    network = _unet(torch.float16, channels_last=False)
    given = _inputs(torch.float16, channels_last=False)
    took, result = _replayed(lambda: network(**given)[0])
    return took, result.clone()


def step(way: str, data_type: torch.dtype) -> dict[str, Any]:
    """A guided step; `way` is "plain", "blocks" or a key of the compiler's options."""
    plain, wanted = _exact_step()
    torch.cuda.empty_cache()
    network = _unet(data_type, channels_last=True)
    given = _inputs(data_type, channels_last=True)
    began = time.perf_counter()
    if way == "blocks":
        network.compile_repeated_blocks()
    elif way != "plain":
        network.compile(fullgraph=True, dynamic=False, options=_INDUCTOR[way])
    network(**given)
    torch.cuda.synchronize()
    first = time.perf_counter() - began
    took, result = _replayed(lambda: network(**given)[0])
    return {
        "exact_ms": plain,
        "ms": took,
        "tflops": _TFLOP / took * 1000,
        "first_call_s": first,
        "difference": _difference(result, wanted),
        "peak_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def decode(way: str, data_type: torch.dtype) -> dict[str, Any]:
    """A decoding; `way` as for `step`, without "blocks"."""
    from diffusers import AutoencoderKL

    from bench.estimates import known
    from tests.domains.model.corpus.configurations import VAE

    torch.manual_seed(0)
    with torch.device("cuda"):
        network = AutoencoderKL(**known(AutoencoderKL, VAE)).eval()
    generator = torch.Generator("cuda").manual_seed(1)
    latents = torch.randn(1, 4, _LATENTS, _LATENTS, device="cuda", generator=generator)
    wanted = network.decode(latents, return_dict=False)[0]
    plain = _milliseconds(lambda: network.decode(latents, return_dict=False))
    network.to(data_type).to(memory_format=torch.channels_last)
    latents = latents.to(data_type).contiguous(memory_format=torch.channels_last)
    began = time.perf_counter()
    call: Any = network.decode
    if way != "plain":
        call = torch.compile(
            network.decode, fullgraph=True, dynamic=False, options=_INDUCTOR[way]
        )
    call(latents, return_dict=False)
    torch.cuda.synchronize()
    first = time.perf_counter() - began
    took, result = _replayed(lambda: call(latents, return_dict=False)[0])
    return {
        "exact_ms": plain,
        "ms": took,
        "first_call_s": first,
        "difference": _difference(result, wanted),
        "peak_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


_WAYS = (
    ("step", "default", "float16"),
    ("decode", "default", "bfloat16"),
    ("step", "blocks", "float16"),
    ("step", "conv as matmul", "bfloat16"),
    ("step", "coordinate descent", "float16"),
    ("step", "plain", "float16"),
    ("decode", "plain", "bfloat16"),
    ("decode", "conv as matmul", "bfloat16"),
    ("step", "max-autotune", "float16"),
)


def main(arguments: list[str]) -> int:
    """Measure all ways, or the one that is named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_compiling", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where compiled code is kept.")
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=400, help="Begin no way after that.")
    given = parser.parse_args(arguments)
    if given.way is not None:
        part, way, name = given.way
        with torch.no_grad():
            found = (step if part == "step" else decode)(way, getattr(torch, name))
        rounded = {key: round(value, 5) for key, value in found.items()}
        print(json.dumps({"way": given.way} | rounded), flush=True)
        return 0
    began = time.perf_counter()
    for each in _WAYS:
        for cache in ("cold", "warm"):
            if time.perf_counter() - began > given.seconds:
                return 0
            folder = given.folder / "-".join(each).replace(" ", "-")
            print(cache, end=" ", flush=True)
            subprocess.run(
                [
                    *("env", f"TORCHINDUCTOR_CACHE_DIR={folder}", sys.executable),
                    *("-m", "bench.accelerator_compiling", str(given.folder)),
                    *("--way", *each),
                ],
                check=False,
            )
            if each[1] == "plain":
                break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
