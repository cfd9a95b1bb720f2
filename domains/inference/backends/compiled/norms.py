"""A graph's group normalisations as our own kernels, each with what stands around it."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import fx

from domains.inference.backends.compiled.group_norm import OPERATOR

_aten = torch.ops.aten
# Kinds of device that Triton makes kernels for.
_TRITON = frozenset({"cuda", "xpu"})


def has_kernels(device: torch.device) -> bool:
    """Whether the kernels run there."""
    return device.type in _TRITON and importlib.util.find_spec("triton") is not None


def use_kernels(whole: fx.GraphModule) -> None:
    """Have pictures be normalised by our kernels, which take them with channels innermost.

    A convolution's bias and whatever else is one number for each channel need not be added to
    every pixel before: the kernels take it. SiLU, where nothing else reads what is before it,
    belongs to them as well.

    Args:
        whole: Of `torch.export`; changed in place.
    """
    for node in list(whole.graph.nodes):
        if node.target is _aten.group_norm.default and node.meta["val"].ndim == 4:
            _replace(whole.graph, node)
    whole.graph.eliminate_dead_code()
    whole.recompile()


def _replace(graph: fx.Graph, node: fx.Node) -> None:
    sample, groups = node.args[:2]
    named: list[Any] = [None, None, 1e-5]
    named[: len(node.args) - 2] = node.args[2:5]
    last = _only_user(node, _aten.silu.default)
    with graph.inserting_before(node):
        source, added = _without_added(graph, sample)
        made = graph.call_function(
            OPERATOR,
            (source, added, *named[:2], groups, named[2], last is not None),
        )
    made.meta["val"] = node.meta["val"]
    (node if last is None else last).replace_all_uses_with(made)


def _only_user(node: fx.Node, target: Any) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _without_added(graph: fx.Graph, sample: Any) -> tuple[fx.Node, fx.Node | None]:
    """What is normalised before anything was added to channels, and that, in float32."""
    added: fx.Node | None = None
    if sample.target is _aten.add.Tensor and len(sample.users) == 1 and not sample.kwargs:
        for one, other in (sample.args, sample.args[::-1]):
            if _is_by_channels(other) and not _is_by_channels(one):
                shape = list(other.meta["val"].shape[:2])
                flat = graph.call_function(_aten.reshape.default, (other, shape))
                sample, added = one, _wide(graph, flat)
                break
    if sample.target is not _aten.conv2d.default or len(sample.users) > 1:
        return sample, added
    picture, kernel, *others = sample.args
    if not others or others[0] is None:
        return sample, added
    row = _wide(graph, graph.call_function(_aten.unsqueeze.default, (others[0], 0)))
    if added is not None:
        row = graph.call_function(_aten.add.Tensor, (added, row))
    bare = (picture, kernel, None, *others[1:])
    return graph.call_function(_aten.conv2d.default, bare), row


def _wide(graph: fx.Graph, node: fx.Node) -> fx.Node:
    return graph.call_function(_aten.to.dtype, (node, torch.float32))


def _is_by_channels(node: Any) -> bool:
    seen = node.meta["val"] if isinstance(node, fx.Node) else None
    return isinstance(seen, torch.Tensor) and seen.ndim == 4 and seen.shape[2:] == (1, 1)
