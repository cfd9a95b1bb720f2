"""Which kernels a compiled step of SDXL's UNet is made of, and what others for the same work
take: products by every algorithm that cuBLASLt proposes, convolutions with and without trying
cuDNN's, attention by each of torch's kernels, and the whole step after each.

`python -m bench.accelerator_kernels FOLDER` at full shape, 1024x1024 with guidance, float16,
random numbers. Lines of JSON; kernels by name go to FOLDER/kernels-*.txt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench.accelerator_artifacts import _arguments, _case
from bench.accelerator_compiling import _difference, _replayed
from bench.accelerator_levers import _alone, _prepared
from bench.cublaslt import WORKSPACE_BYTES, Product, recorded_us
from domains.inference.backends.compiled.hoisting import halved
from domains.inference.backends.compiled.layouts import lay_channels_last
from domains.inference.backends.compiled.norms import use_kernels
from domains.inference.backends.compiled.reductions import rows_at_once
from domains.inference.backends.compiled.rewriting import _Folded, folded

# Rows, columns, inner; with a bias; how often in a guided step at 1024x1024.
_PRODUCTS = (
    (2048, 1280, 1280, False, 240),
    (2048, 1280, 1280, True, 132),
    (2048, 10240, 1280, True, 60),
    (2048, 1280, 5120, True, 60),
    (8192, 640, 640, False, 40),
    (8192, 640, 640, True, 30),
    (8192, 5120, 640, True, 10),
    (8192, 640, 2560, True, 10),
    (2048, 3840, 1280, False, 60),
    (2048, 2560, 1280, False, 60),
    (8192, 1920, 640, False, 10),
    (154, 1280, 2048, False, 120),
)
_ATTENTIONS = (
    (2, 20, 1024, 1024, 60),
    (2, 10, 4096, 4096, 10),
    (2, 20, 1024, 77, 60),
    (2, 10, 4096, 77, 10),
)


def say(**found: Any) -> None:
    """One line of JSON."""
    rounded = {
        key: round(value, 5) if isinstance(value, float) else value
        for key, value in found.items()
    }
    print(json.dumps(rounded), flush=True)


def products() -> None:
    """Each product by torch and by the algorithms that cuBLASLt proposes."""
    workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    for m, n, k, biased, count in _PRODUCTS:
        copies = max(4, min(24, (160 << 20) // (2 * n * k)))
        weights = [torch.randn(n, k, device="cuda").half() / k**0.5 for _ in range(copies)]
        rows = [torch.randn(m, k, device="cuda").half() for _ in range(2)]
        bias = torch.randn(n, device="cuda").half() if biased else None
        out = torch.empty(m, n, device="cuda", dtype=torch.float16)

        def plain(each: int) -> Callable[[], object]:
            return lambda: functional.linear(rows[each % 2], weights[each], bias)

        before = recorded_us([plain(each) for each in range(copies)])
        wanted = functional.linear(
            rows[0].float(), weights[0].float(), None if bias is None else bias.float()
        )
        product = Product(rows[0], weights[0], bias)
        tried = []
        for place, proposal in enumerate(product.proposals(48)):

            def chosen(each: int) -> Callable[[], object]:
                return lambda: product(
                    proposal, rows[each % 2], weights[each], bias, out, workspace
                )

            try:
                took = recorded_us([chosen(each) for each in range(copies)])
            except RuntimeError:
                continue
            chosen(0)()
            tried.append((took, place, _difference(out, wanted)))
        best = min(tried)
        tflops = 2e-6 * m * n * k
        say(
            product=[m, n, k, biased],
            count=count,
            torch_us=before,
            torch_tflops=tflops / before,
            first_us=tried[0][0],
            best_us=best[0],
            best_tflops=tflops / best[0],
            best_place=best[1],
            difference=best[2],
            proposals=len(tried),
            step_gain_ms=(before - best[0]) * count / 1000,
        )


def _convolutions(network: nn.Module, call: Callable[[], object]) -> Counter[Any]:
    seen: Counter[Any] = Counter()

    def note(module: Any, given: Any) -> None:
        seen[tuple(given[0].shape), module] += 1

    handles = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    call()
    for each in handles:
        each.remove()
    return Counter(
        {
            key: count
            for key, count in Counter(
                (shape, m.out_channels, m.kernel_size, m.stride, m.padding)
                for (shape, m), times in seen.items()
                for _ in range(times)
            ).items()
        }
    )


def convolutions() -> None:
    """Each convolution of the step and the decoder, in both layouts, with and without trying."""
    step, given = _case("step, contiguous")
    decoder, latents = _case("decode")
    cases = [
        ("step", torch.float16, _convolutions(step, lambda: step(*given))),
        ("decode", torch.bfloat16, _convolutions(decoder, lambda: decoder(*latents))),
    ]
    del step, decoder, given, latents
    torch.cuda.empty_cache()
    for part, kind, found in cases:
        totals: Counter[str] = Counter()
        for (shape, out, kernel, stride, padding), count in found.items():
            line: dict[str, Any] = {}
            for layout in (torch.contiguous_format, torch.channels_last):
                sample = torch.randn(shape, device="cuda").to(kind)
                weight = torch.randn(out, shape[1], *kernel, device="cuda").to(kind) * 0.02
                sample = sample.contiguous(memory_format=layout)
                weight = weight.contiguous(memory_format=layout)
                for tries in (False, True):
                    torch.backends.cudnn.benchmark = tries

                    def run() -> object:
                        return functional.conv2d(sample, weight, None, stride, padding)

                    name = f"{str(layout).rpartition('.')[2][:8]}{' tried' * tries}"
                    line[name] = recorded_us([run] * 6)
                    totals[name] += line[name] * count / 1000
            say(part=part, shape=[*shape, out, kernel[0], stride[0]], count=count, **line)
        say(part=part, **{f"{name}, ms": total for name, total in totals.items()})
    torch.backends.cudnn.benchmark = False


def attentions() -> None:
    """Each attention of the step by torch's kernels."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    for batch, heads, queries, keys, count in _ATTENTIONS:
        flat = [
            torch.randn(batch, length, heads * 64, device="cuda").half()
            for length in (queries, keys, keys)
        ]
        q, k, v = (each.view(batch, -1, heads, 64).transpose(1, 2) for each in flat)
        line: dict[str, Any] = {}
        for name, backend in (
            ("default", None),
            ("cudnn", SDPBackend.CUDNN_ATTENTION),
            ("flash", SDPBackend.FLASH_ATTENTION),
            ("efficient", SDPBackend.EFFICIENT_ATTENTION),
        ):

            def run() -> object:
                return functional.scaled_dot_product_attention(q, k, v)

            if backend is None:
                line[name] = recorded_us([run] * 10)
                continue
            with sdpa_kernel(backend):
                line[name] = recorded_us([run] * 10)
        flops = 4e-6 * batch * heads * queries * keys * 64
        best = min(line.values())
        say(attention=[batch, heads, queries, keys], count=count, tflops=flops / best, **line)


def _profile(name: str, run: Callable[[], object], folder: Path) -> None:
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):
        run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        for _ in range(3):
            run()
        torch.cuda.synchronize()
    rows = sorted(
        (
            (each.self_device_time_total / 3000, each.count / 3, each.key)
            for each in found.key_averages()
            if each.self_device_time_total
        ),
        reverse=True,
    )
    text = "\n".join(f"{took:9.4f} ms {count:7.1f}  {key}" for took, count, key in rows)
    (folder / f"kernels-{name}.txt").write_text(text + "\n")
    say(profile=name, total_ms=sum(row[0] for row in rows), kernels=sum(row[1] for row in rows))


def _rewritten(network: nn.Module, toggles: list[str]) -> None:
    from diffusers.models.upsampling import Upsample2D

    for module in network.modules():
        if type(module) is Upsample2D and "fold" in toggles:
            module.__class__ = _Folded
    if "fused" in toggles or "short" in toggles or "lt" in toggles:
        from bench import block_ops

        kinds = {(True, True): block_ops.Both, (True, False): block_ops.ByProducts}
        kinds |= {(False, True): block_ops.Short, (False, False): block_ops.Block}
        block_ops.use(network, kinds["lt" in toggles, "short" in toggles])


def steps(way: str, folder: Path) -> None:
    """The compiled step or decoder, made with what the way's name says."""
    part, *toggles = way.split("-")
    options: dict[str, Any] = {"layout_optimization": False}
    if "tried" in toggles:
        options["max_autotune_pointwise"] = True
    if "pdl" in toggles:
        options["triton.enable_pdl"] = True
    if "atonce" in toggles:
        options["benchmark_fusion"] = True
    with _alone(folder):
        if part == "decode":
            module, inputs = _case("decode")
            plain, result = _replayed(lambda: module(*inputs))
            wanted = result.clone()
        else:
            module, inputs, wanted, plain = _prepared(("channels_last",))
            inputs = inputs[:4]
            module = _Four(module)
    torch.cuda.empty_cache()
    _rewritten(module, toggles)
    began = time.perf_counter()
    program = torch.export.export(module, inputs, strict=False)
    names = [spec.target for spec in program.graph_signature.input_specs]
    arguments = _arguments(module, names, inputs)
    steady = [name is not None for name in names]
    if part != "decode" and "hoist" in toggles:
        steady[-3:] = [True] * 3
    if "lay" in toggles:
        lay_channels_last(program.graph_module)
    if "norms" in toggles:
        use_kernels(program.graph_module)
    halves = halved(
        program.graph_module, steady if "hoist" in toggles else [False] * len(names)
    )

    def made(graph: Any, given: list[Any]) -> Any:
        return torch._inductor.standalone_compile(
            graph,
            given,
            dynamic_shapes="from_example_inputs",
            options={"config_patches": options},
        )

    kept: list[Any] = []
    with rows_at_once() if "rows" in toggles else nullcontext():
        if halves.before is not None:
            early = [arguments[place] for place in halves.before_places]
            before = made(halves.before, early)
            kept = list(before(*early))
        late = [arguments[place] for place in halves.step_places]
        step = made(halves.step, [*late, *kept])
        step(*late, *kept)
    torch.cuda.synchronize()
    compile_s = time.perf_counter() - began
    (folder / f"ready-{way}").touch()
    while not (folder / "go").exists():
        time.sleep(0.2)
    with _alone(folder):
        if kept:
            took, _ = _replayed(lambda: before(*early))
            say(
                way=way,
                before_ms=took,
                kept=len(kept),
                mib=sum(each.nbytes for each in kept) / 2**20,
            )
        _timed(way, lambda: step(*late, *kept)[0], wanted, folder)
    say(way=way, compile_s=compile_s, plain_ms=plain)


class _Four(nn.Module):
    """A step without the place for what was computed before it."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, sample: Any, timestep: Any, hidden: Any, added: Any) -> Any:
        """See `_Step`."""
        return self.step(sample, timestep, hidden, added, [])


def _timed(way: str, run: Callable[[], Any], wanted: torch.Tensor, folder: Path) -> None:
    def timed(what: str) -> None:
        took, result = _replayed(run)
        say(way=way, what=what, ms=took, difference=_difference(result, wanted))

    timed("as it is")
    timed("again")
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    _profile(way, graph.replay, folder)


def quarters(sample: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same by one 2x2 convolution of four times the channels, put together after it."""
    whole = folded(weight)  # (in, out, 4, 4)
    inner, outer = whole.shape[:2]
    # Row 2i takes rows i-1 and i by taps 3 and 1, row 2i+1 takes i and i+1 by 2 and 0.
    for axis in (2, 3):
        zero, one, two, three = whole.split(1, axis)
        whole = torch.cat([three, one, two, zero], axis)
    parts = whole.reshape(inner, outer, 2, 2, 2, 2).permute(2, 4, 1, 0, 3, 5)
    kernel = parts.reshape(4 * outer, inner, 2, 2)
    made = functional.conv2d(
        sample, kernel.contiguous(memory_format=torch.channels_last), padding=1
    )
    height, width = sample.shape[-2:]
    out = sample.new_empty(sample.shape[0], outer, 2 * height, 2 * width)
    for down in range(2):
        for right in range(2):
            first = (2 * down + right) * outer
            out[:, :, down::2, right::2] = made[
                :, first : first + outer, down : down + height, right : right + width
            ]
    return out


def upsamplings() -> None:
    """Doubling and a convolution after it, and the convolutions it can be folded into."""
    for kind, shape in (
        (torch.float16, (2, 1280, 32, 32)),
        (torch.float16, (2, 640, 64, 64)),
        (torch.bfloat16, (1, 512, 128, 128)),
        (torch.bfloat16, (1, 512, 256, 256)),
        (torch.bfloat16, (1, 256, 512, 512)),
    ):
        line: dict[str, Any] = {}
        for layout in (torch.channels_last,):
            name = str(layout).rpartition(".")[2][:8]
            sample = torch.randn(shape, device="cuda").to(kind)
            weight = torch.randn(shape[1], shape[1], 3, 3, device="cuda").to(kind) * 0.02
            sample = sample.contiguous(memory_format=layout)
            weight = weight.contiguous(memory_format=layout)
            large = functional.interpolate(sample, scale_factor=2.0)
            large = large.contiguous(memory_format=layout)
            other = folded(weight).contiguous(memory_format=layout)
            wanted = functional.conv2d(large, weight, padding=1)
            for tries in (False, True):
                torch.backends.cudnn.benchmark = tries
                more = f"{name}{' tried' * tries}"
                for what, run in (
                    ("conv", lambda: functional.conv2d(large, weight, padding=1)),
                    (
                        "transposed",
                        lambda: functional.conv_transpose2d(sample, other, stride=2, padding=1),
                    ),
                    ("quarters", lambda: quarters(sample, weight)),
                ):
                    line[f"{what} {more}"] = recorded_us([run] * 4)
                    line[f"{what} {name} differs"] = _difference(run(), wanted)
        say(upsampling=list(shape), **line)
    torch.backends.cudnn.benchmark = False


def gates() -> None:
    """A product with its gated activation in one kernel, and the product alone."""
    from bench.geglu import CONFIGS, gated

    for m, n, k in ((2048, 5120, 1280), (8192, 2560, 640)):
        weights = [torch.randn(2 * n, k, device="cuda").half() / k**0.5 for _ in range(8)]
        rows = torch.randn(m, k, device="cuda").half()
        bias = torch.randn(2 * n, device="cuda").half()
        line: dict[str, Any] = {
            "product_us": recorded_us(
                [lambda w=w: functional.linear(rows, w, bias) for w in weights]
            )
        }
        both = functional.linear(rows.float(), weights[0].float(), bias.float())
        wanted = both[:, :n] * functional.gelu(both[:, n:])
        made = functional.linear(rows, weights[0], bias)
        act = torch.compile(lambda x, n=n: x[:, :n] * functional.gelu(x[:, n:]))
        line["plain differs"] = _difference(act(made), wanted)
        line["activation_us"] = recorded_us([lambda: act(made)] * 8)
        line["both_us"] = recorded_us(
            [lambda w=w: act(functional.linear(rows, w, bias)) for w in weights]
        )
        for place, config in enumerate(CONFIGS):
            try:
                line[f"one kernel {place}"] = recorded_us(
                    [lambda w=w: gated(rows, w, bias, config) for w in weights]
                )
                line[f"differs {place}"] = _difference(
                    gated(rows, weights[0], bias, config), wanted
                )
            except Exception as error:
                line[f"one kernel {place}"] = repr(error)[:80]
        say(gate=[m, n, k], **line)


def short_attentions() -> None:
    """Attention to texts by a kernel for few keys, beside torch's."""
    from bench.short_attention import attend

    for heads, rows, count in ((20, 1024, 60), (10, 4096, 10)):
        width = heads * 64
        given = [
            torch.randn(2, length, width, device="cuda").half() for length in (rows, 77, 77)
        ]
        q, k, v = (each.view(2, -1, heads, 64).transpose(1, 2) for each in given)
        wanted = functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
        wanted = wanted.transpose(1, 2).flatten(2)
        line: dict[str, Any] = {
            "torch_us": recorded_us(
                [lambda q=q, k=k, v=v: functional.scaled_dot_product_attention(q, k, v)] * 10
            )
        }
        for each in (64, 128, 256):
            for warps in (4, 8):
                made = attend(*given, heads, each, warps)
                line[f"{each} rows, {warps} warps"] = recorded_us(
                    [
                        lambda given=given, heads=heads, each=each, warps=warps: attend(
                            *given, heads, each, warps
                        )
                    ]
                    * 10
                )
                line["differs"] = _difference(made, wanted)
        say(short_attention=[heads, rows], count=count, **line)


_PARTS = {
    "short_attentions": short_attentions,
    "gates": gates,
    "upsamplings": upsamplings,
    "products": products,
    "convolutions": convolutions,
    "attentions": attentions,
}


def main(arguments: list[str]) -> int:
    """Measure all parts, the compiled steps last, which are compiled meanwhile."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_kernels", description=__doc__
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ways", nargs="*", default=["step-norms-rows-fold-hoist"])
    parser.add_argument("--parts", nargs="*", default=list(_PARTS), choices=_PARTS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        if given.one is not None:
            steps(given.one, given.folder)
            return 0
        itself = [sys.executable, "-m", "bench.accelerator_kernels", str(given.folder)]
        compiling = [
            subprocess.Popen(
                [
                    *("env", f"TORCHINDUCTOR_CACHE_DIR=/tmp/inductor-{way}"),
                    *(*itself, "--one", way),
                ]
            )
            for way in given.ways
        ]
        for part in given.parts:
            began = time.perf_counter()
            try:
                _PARTS[part]()
            except Exception as error:
                say(part=part, failed=repr(error)[:500])
            say(part=part, seconds=time.perf_counter() - began)
    for way in given.ways:
        ready = given.folder / f"ready-{way}"
        while not ready.exists() and any(each.poll() is None for each in compiling):
            time.sleep(0.2)
    for each in compiling:
        if each.poll() is None:
            (given.folder / "go").touch()
            each.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
