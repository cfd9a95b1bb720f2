"""Walking the layers of a network as often as once for each picture.

`nn.Module.modules()` and `parameters()` are generators within generators, one for each level: a
UNet's thousand layers take them ten milliseconds each time, as long as a step takes a card.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import nn

Table = dict[Any, Any]


def modules_of(network: nn.Module) -> list[nn.Module]:
    """The network and all its layers, each once, in an order that is the same every time."""
    found = {id(network): network}
    waiting = [network]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and id(child) not in found:
                found[id(child)] = child
                waiting.append(child)
    return list(found.values())


class Tables(NamedTuple):
    """Where the layers of a network keep what they have: the same tables for as long as they
    are the same layers."""

    below: list[nn.Module]
    """The layers, without the network itself."""
    children: list[Table]
    hooks: list[Table]
    hooks_before: list[Table]
    tensors: list[Table]
    """Parameters, and buffers."""
    attributes: list[Table]
    """Of those that have an attention processor."""

    @classmethod
    def of(cls, network: nn.Module) -> Tables:
        """Those of a network as it is now."""
        modules = modules_of(network)
        return cls(
            modules[1:],
            [each._modules for each in modules],
            [each._forward_hooks for each in modules],
            [each._forward_pre_hooks for each in modules],
            [*(each._parameters for each in modules), *(each._buffers for each in modules)],
            [each.__dict__ for each in modules if "processor" in each.__dict__],
        )

    def child_ids(self) -> list[int]:
        """What tells that they are the same layers."""
        return list(map(id, values_of(self.children)))


class Layers:
    """The tables of the network asked for last, which is walked anew only where a layer was put
    in or taken out. No network lasts longer for being known here.

    By the next picture nothing of a network is in a processor's caches any more. Loops in C
    over tables wait for memory half as long as loops in Python over layers.
    """

    def __init__(self) -> None:
        self._network: ref[nn.Module] | None = None
        self._tables: Tables | None = None
        self._child_ids: list[int] = []

    def of(self, network: nn.Module) -> Tables:
        """All of them."""
        known, tables = self._network, self._tables
        if (
            known is None
            or tables is None
            or known() is not network
            or tables.child_ids() != self._child_ids
        ):
            tables = Tables.of(network)
            self._child_ids = tables.child_ids()
            self._network, self._tables = ref(network, self._forget), tables
        return tables

    def _forget(self, gone: ref[nn.Module]) -> None:
        if gone is self._network:
            self._network = self._tables = None


def values_of(tables: Iterable[Table]) -> Iterator[Any]:
    """All that is in these tables."""
    return chain.from_iterable(map(dict.values, tables))


def data_type_of(network: nn.Module) -> torch.dtype | None:
    """The element type of one of its parameters; None where it has none. The whole network is
    not walked."""
    waiting, seen = [network], {id(network)}
    while waiting:
        module = waiting.pop()
        for parameter in module._parameters.values():
            if parameter is not None:
                return parameter.dtype
        for child in module._modules.values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)
    return None


def parameters_of(modules: Iterable[nn.Module]) -> list[torch.Tensor]:
    """The parameters of these layers, each once."""
    return _each_once(module._parameters.values() for module in modules)


def buffers_of(modules: Iterable[nn.Module]) -> list[torch.Tensor]:
    """Their buffers, each once."""
    return _each_once(module._buffers.values() for module in modules)


def _each_once(found: Iterable[Iterable[torch.Tensor | None]]) -> list[torch.Tensor]:
    tensors = chain.from_iterable(found)
    return list({id(tensor): tensor for tensor in tensors if tensor is not None}.values())
