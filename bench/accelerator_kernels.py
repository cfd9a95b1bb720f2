"""What the kernels of a step of SDXL's UNet, and of its decoder, take on a card, and others for
the same work: products by every algorithm that cuBLASLt proposes, convolutions in both layouts
with and without trying cuDNN's, attention by each of torch's kernels and by one for few keys,
doublings folded into convolutions, and products with their gated activation as one kernel.

`python -m bench.accelerator_kernels [--parts NAME ...]`: full shape, 1024x1024 with guidance,
random numbers, each recorded several times in a row. Lines of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.accelerator_artifacts import _case
from bench.accelerator_compiling import _difference
from bench.cublaslt import WORKSPACE_BYTES, Product
from bench.recorded_time import recorded_us
from domains.inference.backends.compiled.rewriting import folded

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
# Heads, queries, keys; how often.
_ATTENTIONS = (
    (20, 1024, 1024, 60),
    (10, 4096, 4096, 10),
    (20, 1024, 77, 60),
    (10, 4096, 77, 10),
)
_DOUBLINGS = (
    (torch.float16, (2, 1280, 32, 32)),
    (torch.float16, (2, 640, 64, 64)),
    (torch.bfloat16, (1, 512, 128, 128)),
    (torch.bfloat16, (1, 512, 256, 256)),
    (torch.bfloat16, (1, 256, 512, 512)),
)
_PROPOSALS = 48


def say(**found: Any) -> None:
    """One line of JSON."""
    rounded = {
        key: round(value, 5) if isinstance(value, float) else value
        for key, value in found.items()
    }
    print(json.dumps(rounded), flush=True)


def _made(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda").half()


def products() -> None:
    """Each product by torch and by the algorithms that cuBLASLt proposes."""
    workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    for m, n, k, biased, count in _PRODUCTS:
        # So many that weights come from memory, as in a step.
        copies = max(4, min(24, (160 << 20) // (2 * n * k)))
        weights = [_made(n, k) / k**0.5 for _ in range(copies)]
        rows, bias = _made(m, k), _made(n) if biased else None
        out = _made(m, n)
        before = recorded_us([partial(functional.linear, rows, w, bias) for w in weights])
        product = Product(rows, weights[0], bias)
        tried = []
        for proposal in product.proposals(_PROPOSALS):
            run = partial(product, proposal, rows, bias=bias, out=out, workspace=workspace)
            tried.append(recorded_us([partial(run, w) for w in weights]))
        tflops = 2e-6 * m * n * k
        say(
            product=[m, n, k, biased],
            count=count,
            torch_us=before,
            torch_tflops=tflops / before,
            best_us=min(tried),
            best_tflops=tflops / min(tried),
            proposals=len(tried),
            step_gain_ms=(before - min(tried)) * count / 1000,
        )


def _convolutions(network: nn.Module, call: Callable[[], object]) -> Counter[Any]:
    seen: Counter[Any] = Counter()

    def note(module: Any, given: Any) -> None:
        kind = (module.out_channels, module.kernel_size, module.stride, module.padding)
        seen[tuple(given[0].shape), *kind] += 1

    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    call()
    for each in handles:
        each.remove()
    return seen


def convolutions() -> None:
    """Each of the step and of the decoder, in both layouts, with and without trying."""
    for way, kind in (("step, contiguous", torch.float16), ("decode", torch.bfloat16)):
        network, given = _case(way)
        found = _convolutions(network, partial(network, *given))
        del network, given
        torch.cuda.empty_cache()
        totals: Counter[str] = Counter()
        for (shape, out, kernel, stride, padding), count in found.items():
            line: dict[str, Any] = {}
            for name in ("contiguous_format", "channels_last"):
                layout = getattr(torch, name)
                sample = torch.randn(shape, device="cuda").to(kind)
                weight = torch.randn(out, shape[1], *kernel, device="cuda").to(kind) * 0.02
                sample = sample.contiguous(memory_format=layout)
                weight = weight.contiguous(memory_format=layout)
                for tries in (False, True):
                    torch.backends.cudnn.benchmark = tries
                    run = partial(functional.conv2d, sample, weight, None, stride, padding)
                    line[f"{name}{', tried' * tries}"] = recorded_us([run] * 6)
            totals.update({each: took * count / 1000 for each, took in line.items()})
            say(way=way, shape=[*shape, out, kernel[0], stride[0]], count=count, **line)
        say(way=way, **{f"{name}, ms": total for name, total in totals.items()})
    torch.backends.cudnn.benchmark = False


def attentions() -> None:
    """Each attention of the step by torch's kernels; to texts by one for few keys as well."""
    from bench.short_attention import attend

    kernels = {
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }
    for heads, queries, keys, count in _ATTENTIONS:
        flat = [_made(2, length, heads * 64) for length in (queries, keys, keys)]
        q, k, v = (each.view(2, -1, heads, 64).transpose(1, 2) for each in flat)
        run = partial(functional.scaled_dot_product_attention, q, k, v)
        line: dict[str, Any] = {"default": recorded_us([run] * 10)}
        for name, kernel in kernels.items():
            with sdpa_kernel(kernel):
                line[name] = recorded_us([run] * 10)
        if keys <= 128:
            for rows in (64, 128):
                line[f"few keys, {rows} rows"] = recorded_us(
                    [partial(attend, *flat, heads, rows)] * 10
                )
            made = attend(*flat, heads)
            line["few keys differ"] = _difference(made, run().transpose(1, 2).flatten(2))
        flops = 4e-6 * 2 * heads * queries * keys * 64
        say(attention=[heads, queries, keys], count=count, tflops=flops / line["cudnn"], **line)


def doublings() -> None:
    """A convolution of doubled pictures, and the transposed one it can be folded into."""
    for kind, shape in _DOUBLINGS:
        last = torch.channels_last
        sample = torch.randn(shape, device="cuda").to(kind).contiguous(memory_format=last)
        weight = torch.randn(shape[1], shape[1], 3, 3, device="cuda").to(kind) * 0.02
        weight = weight.contiguous(memory_format=last)
        large = functional.interpolate(sample, scale_factor=2.0).contiguous(memory_format=last)
        plain = partial(functional.conv2d, large, weight, padding=1)
        kernel = folded(weight)
        other = partial(functional.conv_transpose2d, sample, kernel, stride=2, padding=1)
        say(
            doubling=list(shape),
            convolution_us=recorded_us([plain] * 4),
            folded_us=recorded_us([other] * 4),
            differs=_difference(other(), plain()),
        )


def gates() -> None:
    """A product, its gated activation behind it, and both as one kernel."""
    from bench.gated_product import CONFIGS, gated

    for m, n, k in ((2048, 5120, 1280), (8192, 2560, 640)):
        weights = [_made(2 * n, k) / k**0.5 for _ in range(8)]
        rows, bias = _made(m, k), _made(2 * n)
        both = functional.linear(rows.float(), weights[0].float(), bias.float())
        wanted = both[:, :n] * functional.gelu(both[:, n:])
        line: dict[str, Any] = {
            "product_us": recorded_us(
                [partial(functional.linear, rows, w, bias) for w in weights]
            )
        }
        for config in CONFIGS:
            run = partial(gated, rows, bias=bias, config=config)
            name = " ".join(f"{key} {value}" for key, value in config.items())
            line[name] = recorded_us([partial(run, w) for w in weights])
            line["differs"] = _difference(run(weights[0]), wanted)
        say(gate=[m, n, k], **line)


_PARTS = {
    each.__name__: each for each in (products, convolutions, attentions, doublings, gates)
}


def main(arguments: list[str]) -> int:
    """Measure all parts, or those that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_kernels", description=__doc__
    )
    parser.add_argument("--parts", nargs="*", default=list(_PARTS), choices=_PARTS)
    given = parser.parse_args(arguments)
    with torch.no_grad():
        for part in given.parts:
            began = time.perf_counter()
            _PARTS[part]()
            say(part=part, seconds=time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
