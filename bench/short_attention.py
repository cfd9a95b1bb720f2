"""Attention to few keys, as those of a text, in Triton: they fit into one tile."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _attend(
    queries,
    keys,
    values,
    out,
    rows,
    count,
    heads,
    width,
    scale,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    EACH: tl.constexpr,
):
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    key = tl.arange(0, KEYS)
    lane = head * EACH + tl.arange(0, EACH)
    at = (batch * rows + row)[:, None].to(tl.int64) * width + lane[None, :]
    of = (batch * count + key)[:, None] * width + lane[None, :]
    there = (key < count)[:, None]
    query = tl.load(queries + at, mask=(row < rows)[:, None], other=0.0)
    products = tl.dot(query, tl.load(keys + of, mask=there, other=0.0).T) * scale
    products = tl.where((key < count)[None, :], products, float("-inf"))
    shares = tl.exp2(products - tl.max(products, 1)[:, None])
    total = tl.sum(shares, 1)
    made = tl.dot(shares.to(query.dtype), tl.load(values + of, mask=there, other=0.0))
    made = made / total[:, None]
    tl.store(out + at, made.to(query.dtype), mask=(row < rows)[:, None])


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    heads: int,
    rows: int = 128,
    warps: int = 4,
) -> torch.Tensor:
    """Softmax attention.

    Args:
        queries: `[batch, rows, width]`.
        keys: `[batch, keys, width]`, 128 at most.
        values: Likewise.
        heads: Of `width`, a power of two each.
    """
    batch, count, width = keys.shape
    out = torch.empty_like(queries)
    each = width // heads
    _attend[triton.cdiv(queries.shape[1], rows), batch * heads](
        queries,
        keys,
        values,
        out,
        queries.shape[1],
        count,
        heads,
        width,
        each**-0.5 * 1.4426950408889634,
        ROWS=rows,
        KEYS=triton.next_power_of_2(count),
        EACH=each,
        num_warps=warps,
    )
    return out
