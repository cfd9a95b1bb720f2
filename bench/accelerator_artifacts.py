"""Networks compiled once and loaded by other processes: what they bring on a card and cost.

`python -m bench.accelerator_artifacts FOLDER` compiles SDXL's networks of full shape into
files, each in a process of its own and all at once, then loads each in a fresh process and
replays it as a graph. A line of JSON for each. The inputs are those of 1024x1024 with guidance;
the weights are arguments of the compiled code, so that whoever changes them in place needs no
new one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bench.accelerator_compiling import _difference, _inputs, _replayed, _unet

_WAYS: dict[str, dict[str, Any]] = {
    "step, contiguous": {"layout_optimization": False},
    "decode": {},
}


class _Step(nn.Module):
    """A UNet whose inputs are all given by place."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sample: Any, timestep: Any, hidden_states: Any, added: Any) -> Any:
        """See diffusers' UNet2DConditionModel."""
        return self.network(
            sample,
            timestep,
            encoder_hidden_states=hidden_states,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]


class _Decode(nn.Module):
    """A VAE's decoding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Any) -> Any:
        """See diffusers' AutoencoderKL."""
        return self.network.decode(latents, return_dict=False)[0]  # type: ignore[operator]


def _vae(data_type: torch.dtype) -> Any:
    from diffusers import AutoencoderKL

    from bench.memory_factors import known
    from tests.domains.model.corpus.configurations import VAE

    with torch.device("cuda"):
        network: Any = AutoencoderKL(**known(AutoencoderKL, VAE))  # type: ignore[no-untyped-call]
    return network.eval().to(data_type).to(memory_format=torch.channels_last)


def _case(way: str) -> tuple[nn.Module, tuple[Any, ...]]:
    if way == "decode":
        generator = torch.Generator("cuda").manual_seed(1)
        latents = torch.randn(1, 4, 128, 128, device="cuda", generator=generator)
        latents = latents.bfloat16().contiguous(memory_format=torch.channels_last)
        return _Decode(_vae(torch.bfloat16)), (latents,)
    given = _inputs(torch.float16, channels_last=False)
    given.pop("return_dict")
    return _Step(_unet(torch.float16, channels_last=False)), tuple(given.values())


def _arguments(module: nn.Module, names: list[str | None], inputs: Any) -> list[Any]:
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    given = iter(pytree.tree_leaves(inputs))
    return [next(given) if name is None else own[name].detach() for name in names]


def _file(folder: Path, way: str) -> Path:
    return folder / way.replace(", ", "-")


def compile_one(way: str, folder: Path) -> dict[str, Any]:
    """Compile it into a file, its arguments' names beside it."""
    module, inputs = _case(way)
    began = time.perf_counter()
    program = torch.export.export(module, inputs, strict=False)
    exported = time.perf_counter()
    names = [spec.target for spec in program.graph_signature.input_specs]
    artifact = torch._inductor.standalone_compile(
        program.graph_module,
        _arguments(module, names, inputs),
        dynamic_shapes="from_example_inputs",
        options={"config_patches": _WAYS[way]},
    )
    done = time.perf_counter()
    path = _file(folder, way)
    artifact.save(path=str(path), format="binary")
    path.with_suffix(".json").write_text(json.dumps(names))
    return {
        "export_s": exported - began,
        "compile_s": done - exported,
        "mib": path.stat().st_size / 2**20,
        "peak_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def use_one(way: str, folder: Path) -> dict[str, Any]:
    """Load it, and replay it beside the plain network."""
    from torch._inductor.standalone_compile import CompiledArtifact

    module, inputs = _case(way)
    plain, result = _replayed(lambda: module(*inputs))
    wanted = result.clone()
    began = time.perf_counter()
    path = _file(folder, way)
    artifact = CompiledArtifact.load(path=str(path), format="binary")
    names = json.loads(path.with_suffix(".json").read_text())
    loaded = time.perf_counter()
    given = _arguments(module, names, inputs)
    artifact(*given)
    torch.cuda.synchronize()
    called = time.perf_counter()
    took, made = _replayed(lambda: artifact(*given)[0])
    recorded = time.perf_counter()
    difference = _difference(made, wanted)
    with torch.no_grad():
        for each in module.parameters():
            each.mul_(1.01)
    _, made = _replayed(lambda: artifact(*given)[0])
    return {
        "plain_ms": plain,
        "ms": took,
        "load_s": loaded - began,
        "first_call_s": called - loaded,
        "recording_and_replays_s": recorded - called,
        "difference": difference,
        "difference_after_a_change": _difference(made, module(*inputs)),
        "changed": _difference(made, wanted),
    }


def main(arguments: list[str]) -> int:
    """Compile all, then use all; or one of it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_artifacts", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="Where compiled code is kept.")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is not None:
        act, way = given.one
        with torch.no_grad():
            found = (compile_one if act == "compile" else use_one)(way, given.folder)
        rounded = {key: round(value, 5) for key, value in found.items()}
        print(json.dumps({"act": act, "way": way} | rounded), flush=True)
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    itself = [sys.executable, "-m", "bench.accelerator_artifacts", str(given.folder), "--one"]
    compiling = []
    for way in _WAYS:
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(_file(given.folder, way)) + "-cache"}
        command = ["env", *(f"{key}={value}" for key, value in caches.items()), *itself]
        compiling.append(subprocess.Popen([*command, "compile", way]))
    for each in compiling:
        each.wait()
    for way in _WAYS:
        subprocess.run([*itself, "use", way], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
