"""A graph's attention with heads too wide for flash kernels as products."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten
# Where flash kernels end; what torch has beyond is several times as slow as products.
_WIDEST_FLASH = 256
# Kinds of device where torch multiplies halves into float32.
_WIDENS = frozenset({"cuda"})
# Of products of queries and keys that are held at once: 256 MiB of them.
_MOST_PRODUCTS = 1 << 26


def has_wide_products(device: torch.device) -> bool:
    """Whether halves can be multiplied there into float32."""
    return device.type in _WIDENS and torch.version.hip is None and hasattr(_aten.mm, "dtype")


def use_products(whole: fx.GraphModule) -> None:
    """Have attention of one wide head, as an autoencoder's, be two products and what is between
    them, some rows at a time.

    Products of queries and keys stay float32, as in the kernels that this replaces.

    Args:
        whole: Of `torch.export`, for a device that `has_wide_products`; changed in place.
    """
    for node in list(whole.graph.nodes):
        if node.target is _aten.scaled_dot_product_attention.default and _is_wide(node):
            _replace(whole.graph, node)
    whole.recompile()


def _is_wide(node: fx.Node) -> bool:
    query, key = _seen(node.args[0]), _seen(node.args[1])
    return (
        query.shape[:-2] == (1, 1)
        and query.shape[-1] > _WIDEST_FLASH
        and key.dtype in (torch.float16, torch.bfloat16)
        and all(not given for given in node.args[3:])
        and not set(node.kwargs) - {"scale"}
    )


def _replace(graph: fx.Graph, node: fx.Node) -> None:
    def call(target: Any, *given: Any) -> fx.Node:
        return graph.call_function(target, given)

    seen = _seen(node.args[0])
    rows, keys = seen.shape[-2], _seen(node.args[1]).shape[-2]
    scale: Any = node.kwargs.get("scale") or 1 / math.sqrt(seen.shape[-1])
    each = max(1, _MOST_PRODUCTS // keys)
    made = []
    with graph.inserting_before(node):
        query, key, value = (call(_aten.squeeze.dims, one, [0, 1]) for one in node.args[:3])
        turned = call(_aten.t.default, key)
        for begin in range(0, rows, each):
            some = call(_aten.slice.Tensor, query, 0, begin, min(begin + each, rows))
            products = call(_aten.mm.dtype, some, turned, torch.float32)
            scaled = call(_aten.mul.Tensor, products, scale)
            shares = call(_aten.softmax.int, scaled, -1)
            narrow = call(_aten.to.dtype, shares, seen.dtype)
            made.append(call(_aten.mm.default, narrow, value))
        whole = call(_aten.unsqueeze.default, call(_aten.cat.default, made), 0)
        whole = call(_aten.unsqueeze.default, whole, 0)
    whole.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(whole)
    graph.erase_node(node)


def _seen(node: Any) -> torch.Tensor:
    seen: torch.Tensor = node.meta["val"]
    return seen
