"""Walking the layers of a network as often as once for each picture.

`nn.Module.modules()` and `parameters()` are generators within generators, one for each level: a
UNet's thousand layers take them ten milliseconds each time, as long as a step takes a card.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from weakref import ref

import torch
from torch import nn


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


class Layers:
    """The layers of the network asked for last, which are walked anew only where one was put in
    or taken out. No network lasts longer for being known here."""

    def __init__(self) -> None:
        self._known: list[ref[nn.Module]] = []
        self._children: list[int] = []

    def of(self, network: nn.Module) -> list[nn.Module]:
        """All of them, as `modules_of`."""
        found = [each() for each in self._known]
        same = bool(found) and found[0] is network and None not in found
        layers = [each for each in found if each is not None]
        # What is known is there, so that nothing else can be in its place in memory.
        if not same or self._children != _children_of(layers):
            layers = modules_of(network)
            self._known = [ref(each) for each in layers]
            self._children = _children_of(layers)
        return layers


def _children_of(layers: list[nn.Module]) -> list[int]:
    return [id(child) for each in layers for child in each._modules.values()]


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
