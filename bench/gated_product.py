"""A product and the gated activation behind it (GEGLU) as one kernel, in Triton."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def _gated(
    rows,
    weight,
    bias,
    out,  # descriptors, and the bias by its place
    m,
    n,
    k,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    down, right = tl.cdiv(m, BLOCK_M), tl.cdiv(n, BLOCK_N)
    kind = out.dtype
    for tile in tl.range(tl.program_id(0), down * right, PROGRAMS, flatten=OVERLAP):
        group = tile // (GROUP * right)
        first = group * GROUP
        height = min(down - first, GROUP)
        at_m = (first + tile % height) * BLOCK_M
        at_n = (tile % (GROUP * right)) // height * BLOCK_N
        values = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        gates = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for at_k in range(0, k, BLOCK_K):
            left = rows.load([at_m, at_k])
            values = tl.dot(left, weight.load([at_n, at_k]).T, values)
            gates = tl.dot(left, weight.load([n + at_n, at_k]).T, gates)
        places = at_n + tl.arange(0, BLOCK_N)
        values += tl.load(bias + places)[None, :].to(tl.float32)
        gates += tl.load(bias + n + places)[None, :].to(tl.float32)
        values = values.to(kind).to(tl.float32)
        gates = gates.to(kind).to(tl.float32)
        gates = 0.5 * gates * (1 + tl.erf(gates * 0.7071067811865476))
        out.store([at_m, at_n], (values * gates.to(kind).to(tl.float32)).to(kind))


def gated(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, config: dict[str, Any]
) -> torch.Tensor:
    """`(rows @ values.T + b) * gelu(rows @ gates.T + c)`.

    Args:
        rows: (m, k).
        weight: (2n, k), the values' before the gates'.
        bias: (2n).
        config: `m`, `n`, `k` of a tile, `warps`, `stages`, `programs`, `overlap`.

    Returns:
        (m, n).
    """
    m, k = rows.shape
    n = weight.shape[0] // 2
    out = rows.new_empty(m, n)
    block_m, block_n, block_k = config["m"], config["n"], config["k"]
    tiles = triton.cdiv(m, block_m) * triton.cdiv(n, block_n)
    programs = min(config["programs"] or tiles, tiles)
    _gated[programs,](
        TensorDescriptor.from_tensor(rows, [block_m, block_k]),
        TensorDescriptor.from_tensor(weight, [block_n, block_k]),
        bias,
        TensorDescriptor.from_tensor(out, [block_m, block_n]),
        m,
        n,
        k,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        GROUP=8,
        PROGRAMS=programs,
        OVERLAP=config["overlap"],
        num_warps=config["warps"],
        num_stages=config["stages"],
    )
    return out


CONFIGS = [
    {
        "m": m,
        "n": n,
        "k": k,
        "warps": warps,
        "stages": stages,
        "programs": programs,
        "overlap": overlap,
    }
    for m, n, k, warps, stages, programs, overlap in (
        (128, 128, 64, 8, 3, 0, False),
        (128, 128, 64, 8, 4, 0, False),
        (128, 128, 64, 8, 4, 132, False),
        (128, 128, 64, 8, 3, 132, True),
        (128, 64, 64, 4, 4, 0, False),
        (128, 64, 64, 4, 4, 264, False),
        (128, 64, 64, 8, 4, 132, True),
        (128, 64, 128, 8, 3, 132, False),
        (256, 64, 64, 8, 4, 132, False),
        (64, 128, 64, 4, 4, 264, False),
    )
]
