"""What each change to a network brings its compiled code on a card: SDXL's step and decoder at
full shape, 1024x1024 with guidance, random numbers, replayed as graphs.

`python -m bench.accelerator_ways FOLDER [--ways NAME ...]` compiles all at once, each in a
process of its own, and times one after another. A way is "step" or "decode" and what is done,
with hyphens between: `fold` (doublings into convolutions), `lay` (nothing laid out anew),
`norms` (our kernels), `rows` (read once), `hoist` (what steps share apart), `join` (products of
the same rows as one), `wide` (a wide head's attention as products), and what is tried beside:
`tried` (the compiler tries its kernels), `pdl` (kernels begin before others end), `halves` (the
negative prompt's half beside the prompt's, each in a stream of its own). `small` is a step at
512x512. Lines of JSON; kernels by name go to FOLDER/kernels-*.txt, in
their order to FOLDER/order-*.txt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bench.accelerator_artifacts import _arguments, _case
from bench.accelerator_compiling import _difference, _replayed
from bench.accelerator_kernels import say
from bench.accelerator_levers import _alone, _prepared
from domains.inference.backends.compiled.attention import use_products
from domains.inference.backends.compiled.hoisting import halved
from domains.inference.backends.compiled.joining import join_products
from domains.inference.backends.compiled.layouts import lay_channels_last
from domains.inference.backends.compiled.norms import use_kernels
from domains.inference.backends.compiled.reductions import rows_at_once
from domains.inference.backends.compiled.rewriting import rewrite

_WAYS = (
    "step",
    "step-hoist",
    "step-hoist-rows",
    "step-hoist-rows-fold-lay",
    "step-hoist-rows-fold-lay-norms",
    "step-hoist-rows-fold-lay-norms-join",
    "decode",
    "decode-hoist-rows-fold-lay-norms",
    "decode-hoist-rows-fold-lay-norms-join-wide",
)
# A UNet's inputs that all steps share come last.
_SHARED = 3


class _Four(nn.Module):
    """A step without the place for what was computed before it."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, sample: Any, timestep: Any, hidden: Any, added: Any) -> Any:
        """See `accelerator_levers`."""
        return self.step(sample, timestep, hidden, added, [])


def _subject(
    part: str, changes: list[str]
) -> tuple[nn.Module, tuple[Any, ...], torch.Tensor, float]:
    """The module, its inputs, what plain code gives, and its milliseconds."""
    if part == "decode":
        module, inputs = _case("decode")
        plain, result = _replayed(lambda: module(*inputs))
        return module, inputs, result.clone(), plain
    step, inputs, wanted, plain = _prepared(("channels_last",))
    module, given = _Four(step), inputs[:4]
    if "small" in changes:
        sample = given[0][..., :64, :64].contiguous(memory_format=torch.channels_last)
        given = (sample, *given[1:])
        plain, result = _replayed(lambda: module(*given))
        wanted = result.clone()
    return module, given, wanted, plain


def _half(inputs: Any, row: int) -> Any:
    def one(given: torch.Tensor) -> torch.Tensor:
        if given.ndim == 0:
            return given
        part = given[row : row + 1].clone()
        return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part

    return pytree.tree_map(one, inputs)


def _at_once(code: Any, one: list[Any], other: list[Any], beside: Any) -> list[Any]:
    """Both halves, each in a stream of its own."""
    here = torch.cuda.current_stream()
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        second = code(*other)[0]
    first = code(*one)[0]
    here.wait_stream(beside)
    return [torch.cat([first, second])]


def measure(way: str, folder: Path) -> None:
    """Compile one way, wait for the others, and time it."""
    part, *changes = way.split("-")
    options: dict[str, Any] = {"layout_optimization": False}
    if "tried" in changes:
        options["max_autotune_pointwise"] = True
    if "pdl" in changes:
        options["triton.enable_pdl"] = True
    with _alone(folder):
        module, inputs, wanted, plain = _subject(part, changes)
    both = inputs
    if "halves" in changes:
        inputs = _half(both, 0)
    torch.cuda.empty_cache()
    if "fold" in changes:
        rewrite(module)
    began = time.perf_counter()
    program = torch.export.export(module, inputs, strict=False)
    graph = program.graph_module
    names = [spec.target for spec in program.graph_signature.input_specs]
    arguments = _arguments(module, names, inputs)
    if "lay" in changes:
        lay_channels_last(graph)
    if "norms" in changes:
        use_kernels(graph)
    if "wide" in changes:
        use_products(graph)
    if "join" in changes:
        join_products(graph)
    steady = [name is not None and "hoist" in changes for name in names]
    if part == "step" and "hoist" in changes:
        steady[-_SHARED:] = [True] * _SHARED
    halves = halved(graph, steady)

    def made(each: Any, given: list[Any]) -> Callable[..., Any]:
        code: Callable[..., Any] = torch._inductor.standalone_compile(
            each,
            given,
            dynamic_shapes="from_example_inputs",
            options={"config_patches": options},
        )
        return code

    kept: list[Any] = []
    facts: dict[str, Any] = {"plain_ms": plain}
    with rows_at_once() if "rows" in changes else nullcontext():
        early = [arguments[place] for place in halves.before_places]
        if halves.before is not None:
            before = made(halves.before, early)
            kept = list(before(*early))
            facts["kept_mib"] = sum(each.nbytes for each in kept) / 2**20
        given = [*(arguments[place] for place in halves.step_places), *kept]
        code = made(halves.step, given)
    run = partial(code, *given)
    if "halves" in changes:
        own = _arguments(module, names, _half(both, 1))
        late = list(before(*(own[place] for place in halves.before_places)))
        other = [*(own[place] for place in halves.step_places), *late]
        beside = torch.cuda.Stream()
        run = partial(_at_once, code, given, other, beside)
    run()
    torch.cuda.synchronize()
    facts["compile_s"] = time.perf_counter() - began
    (folder / f"ready-{way}").touch()
    while not (folder / "go").exists():
        time.sleep(0.2)
    with _alone(folder):
        if kept:
            facts["before_ms"], _ = _replayed(lambda: before(*early))
        if "halves" in changes:
            facts["half_ms"], _ = _replayed(lambda: code(*given)[0])
        took, result = _replayed(lambda: run()[0])
        say(way=way, ms=took, difference=_difference(result, wanted), **facts)
        _profile(way, run, folder)


def _profile(way: str, run: Callable[[], object], folder: Path) -> None:
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    graph.replay()
    torch.cuda.synchronize()
    repeats = 3
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(repeats):
            graph.replay()
        torch.cuda.synchronize()
    rows = sorted(
        (
            (each.self_device_time_total / 1000 / repeats, each.count / repeats, each.key)
            for each in found.key_averages()
            if each.self_device_time_total
        ),
        reverse=True,
    )
    lines = [f"{took:9.4f} ms {count:7.1f}  {key}" for took, count, key in rows]
    (folder / f"kernels-{way}.txt").write_text("\n".join(lines) + "\n")
    in_order = sorted(
        (each for each in found.events() if each.device_type == DeviceType.CUDA),
        key=lambda each: each.time_range.start,
    )
    names = [each.name for each in in_order[: len(in_order) // repeats]]
    (folder / f"order-{way}.txt").write_text("\n".join(names) + "\n")
    total, kernels = sum(row[0] for row in rows), sum(row[1] for row in rows)
    say(way=way, kernels_ms=total, kernels=kernels)


def main(arguments: list[str]) -> int:
    """Measure the ways that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_ways", description=__doc__
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ways", nargs="*", default=list(_WAYS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one is not None:
        with torch.no_grad():
            measure(given.one, given.folder)
        return 0
    (given.folder / "go").unlink(missing_ok=True)
    itself = [sys.executable, "-m", "bench.accelerator_ways", str(given.folder), "--one"]
    running = {}
    for way in given.ways:
        (given.folder / f"ready-{way}").unlink(missing_ok=True)
        cache = f"TORCHINDUCTOR_CACHE_DIR={given.folder / 'caches' / way}"
        running[way] = subprocess.Popen(["env", cache, *itself, way])
    while any(
        process.poll() is None and not (given.folder / f"ready-{way}").exists()
        for way, process in running.items()
    ):
        time.sleep(0.2)
    (given.folder / "go").touch()
    ended = {way: process.wait() for way, process in running.items()}
    print(json.dumps({"ended": ended}), flush=True)
    return max(ended.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
