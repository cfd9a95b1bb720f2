"""A graph's products of the same rows as one: fewer kernels, each of which fills the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten


def join_products(whole: fx.GraphModule) -> None:
    """Have products of the same rows with several weights be one with all of them, which are
    put together before the first step: queries, keys and values of self-attention.

    Inputs' own products stay: what depends on a text is done once in any case.

    Args:
        whole: Of `torch.export`; changed in place.
    """
    found: dict[Any, list[fx.Node]] = {}
    for node in whole.graph.nodes:
        if node.target is _aten.linear.default and _is_plain(node):
            found.setdefault(node.args[0], []).append(node)
    for rows, products in found.items():
        if len(products) > 1:
            _join(whole.graph, rows, products)
    whole.recompile()


def _is_plain(node: Any) -> bool:
    """Of what was computed, by a weight as it is and without a bias."""
    rows, weight, *bias = node.args
    return rows.op != "placeholder" and weight.op == "placeholder" and not any(bias)


def _join(graph: fx.Graph, rows: fx.Node, products: list[fx.Node]) -> None:
    weights: list[Any] = [node.args[1] for node in products]
    widths = [node.meta["val"].shape[-1] for node in products]
    with graph.inserting_before(products[0]):
        joined = graph.call_function(_aten.cat.default, (weights,))
        joined.meta["val"] = torch.cat([each.meta["val"] for each in weights])
        made = graph.call_function(_aten.linear.default, (rows, joined))
        seen = products[0].meta["val"]
        made.meta["val"] = seen.new_empty(*seen.shape[:-1], sum(widths))
        end = 0
        for node, width in zip(products, widths, strict=True):
            begin, end = end, end + width
            part = graph.call_function(_aten.slice.Tensor, (made, -1, begin, end))
            part.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(part)
    for node in products:
        graph.erase_node(node)
