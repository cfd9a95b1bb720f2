"""Walking the layers of a network as often as once for each picture.

`nn.Module.modules()` and `parameters()` are generators within generators, one for each level: a
UNet's thousand layers take them ten milliseconds each time, as long as a step takes a card.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

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
    """A network's layers, which are walked anew only where one was put in or taken out.

    Args:
        network: Stays the same one.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._found: list[nn.Module] = []
        self._children: list[nn.Module | None] = []

    def now(self) -> list[nn.Module]:
        """All of them, as `modules_of`."""
        if not self._found or self._children != self._held():
            self._found = modules_of(self.network)
            self._children = self._held()
        return self._found

    def _held(self) -> list[nn.Module | None]:
        return list(chain.from_iterable([each._modules.values() for each in self._found]))


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
