"""A graph in which pictures lie with their channels innermost from end to end."""

from __future__ import annotations

import torch
from torch import fx

_aten = torch.ops.aten
_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def lay_channels_last(whole: fx.GraphModule) -> None:
    """Have nothing in a graph lay pictures out anew.

    What diffusers' transformers give is turned for plain code's sake, and a compiler joins in
    the order of the dimensions; all behind would be read with gaps, or turned once more.

    Args:
        whole: Of `torch.export`, with the layouts that were seen; changed in place.
    """
    for node in list(whole.graph.nodes):
        if node.target is _aten.contiguous.default and _lies(node.args[0]):
            node.replace_all_uses_with(node.args[0])
            whole.graph.erase_node(node)
        elif node.target is _aten.cat.default and node.meta["val"].ndim == 4:
            _join(whole.graph, node)
    whole.recompile()


def _lies(node: fx.Node) -> bool:
    seen: torch.Tensor = node.meta["val"]
    return seen.ndim == 4 and seen.is_contiguous(memory_format=torch.channels_last)


def _join(graph: fx.Graph, node: fx.Node) -> None:
    tensors, dimension = node.args[0], node.args[1] if len(node.args) > 1 else 0
    if dimension not in (1, -3) or not isinstance(tensors, list | tuple):
        return
    with graph.inserting_before(node):
        turned = [graph.call_function(_aten.permute.default, (each, _LAST)) for each in tensors]
        joined = graph.call_function(_aten.cat.default, (turned, 3))
        back = graph.call_function(_aten.permute.default, (joined, _FIRST))
    back.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(back)
    graph.erase_node(node)
