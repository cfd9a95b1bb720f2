"""A network's graph in two: what every step of a picture shares, and what each step does.

Keys and values of texts, for one, depend on weights and on inputs that are the same all
through a picture. They are computed once, before its first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten
# What is worth being kept in memory instead of done again.
_LONG = frozenset(
    {
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.cat.default,
        _aten.conv2d.default,
        _aten.convolution.default,
        _aten.linear.default,
        _aten.matmul.default,
        _aten.mm.default,
    }
)


@dataclass(frozen=True)
class Halves:
    """`before` gives what `step` takes behind its inputs; None where there is nothing to keep.
    What they take of the whole's inputs is told by places among these."""

    before: fx.GraphModule | None
    step: fx.GraphModule
    before_places: tuple[int, ...]
    step_places: tuple[int, ...]


def halved(whole: fx.GraphModule, steady: Sequence[bool]) -> Halves:
    """Part a graph that changes nothing in place.

    Args:
        whole: Gives a tuple.
        steady: For each of its inputs, whether it is the same for all steps.
    """
    inputs = [node for node in whole.graph.nodes if node.op == "placeholder"]
    kept = _kept(whole, [node for node, is_so in zip(inputs, steady, strict=True) if is_so])
    if not kept:
        places = tuple(range(len(inputs)))
        return Halves(None, whole, (), places)
    [output] = [node for node in whole.graph.nodes if node.op == "output"]
    before_inputs = _needed(kept, stop=())
    step_inputs = _needed(output.all_input_nodes, stop=kept)
    used = [
        [node for node in inputs if node in found] for found in (before_inputs, step_inputs)
    ]
    before = _part(whole, used[0], before_inputs, lambda known: tuple(map(known, kept)))
    step = _part(
        whole,
        [*used[1], *kept],
        step_inputs,
        lambda known: fx.map_arg(output.args[0], known),
    )
    before_places, step_places = (tuple(map(inputs.index, each)) for each in used)
    return Halves(before, step, before_places, step_places)


def _kept(whole: fx.GraphModule, steady: Iterable[fx.Node]) -> list[fx.Node]:
    """Those at the border: the last that are the same for all steps and took long."""
    rooted = set(steady)
    same: dict[fx.Node, bool] = dict.fromkeys(rooted, False)  # and whether they took long
    for node in whole.graph.nodes:
        given = node.all_input_nodes
        if node.op != "call_function" or not all(each in same for each in given):
            continue
        # What comes of nothing is there to be taken along, not to be kept.
        if not rooted.isdisjoint(given):
            rooted.add(node)
        long = node.target in _LONG or any(same[each] for each in given)
        same[node] = long and node in rooted
    return [
        node
        for node, long in same.items()
        if long and isinstance(node.meta.get("val"), torch.Tensor) and _leaves(node, same)
    ]


def _leaves(node: fx.Node, same: dict[fx.Node, bool]) -> bool:
    return any(user not in same for user in node.users)


def _needed(wanted: Iterable[fx.Node], stop: Iterable[fx.Node]) -> set[fx.Node]:
    """All that `wanted` come of, without what `stop` has, and what those come of."""
    ready, found, left = set(stop), set(), list(wanted)
    while left:
        node = left.pop()
        if node not in ready and node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found


def _part(
    whole: fx.GraphModule,
    inputs: Sequence[fx.Node],
    nodes: set[fx.Node],
    result: Callable[[Callable[[fx.Node], fx.Node]], Any],
) -> fx.GraphModule:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in inputs:
        copies[node] = graph.placeholder(node.name)
        copies[node].meta = dict(node.meta)
    for node in whole.graph.nodes:
        if node in nodes and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(result(copies.__getitem__))
    graph.lint()
    return fx.GraphModule(whole, graph)
