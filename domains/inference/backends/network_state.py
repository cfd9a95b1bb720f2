"""What a network's calls depend on beside their arguments, as far as recordings must know."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import attrgetter
from typing import TypeAlias

import torch
from torch import nn

from domains.inference.backends.walk import Tables, values_of

_type_of, _call_of = attrgetter("dtype"), attrgetter("_compiled_call_impl")


class Places:
    """Tensors that others write into before a call, and that stay where they are for as long as
    anybody refers to this.

    Each is itself and equal to no other, so that it can be a part of keys, which keep it.

    Args:
        tensors: All of them.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self.tensors = tuple(tensors)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


PlacesInOrder: TypeAlias = tuple[Places, ...]
"""One after another as something computes with them, as often as it does."""


class PlacedHook:
    """A forward hook whose calls can be recorded: all that it computes with lies in `places`,
    which say as well what it does. None where that is not so."""

    places: Places | None = None


class PlacedProcessor:
    """An attention processor with numbers of its own, likewise; others have none."""

    places: PlacesInOrder | None = None


def hooks_of(tables: Tables) -> tuple[PlacesInOrder, ...] | None:
    """Where what hooks and attention processors compute with lies, each order of places once;
    None where one is there of which that is not known."""
    if any(tables.hooks_before):
        return None
    found: dict[PlacesInOrder, None] = {}
    for attributes in tables.attributes:
        processor = attributes.get("processor")
        if isinstance(processor, PlacedProcessor):
            if processor.places is None:
                return None
            found[processor.places] = None
    if any(tables.hooks):  # of a thousand layers hardly one has anything
        for hook in values_of(tables.hooks):
            if not isinstance(hook, PlacedHook) or hook.places is None:
                return None
            found[hook.places,] = None
    return tuple(found)


def weights_of(tables: Tables) -> Hashable:
    """Where its numbers lie; recorded calls know these places alone."""
    tensors = [tensor for tensor in values_of(tables.tensors) if tensor is not None]
    return tuple(map(torch.Tensor.data_ptr, tensors)), tuple(map(_type_of, tensors))


def code_of(modules: Iterable[nn.Module]) -> tuple[Hashable, ...]:
    """The compiled code that runs for it, itself, and how much of it; empty without any."""
    calls = [call for call in map(_call_of, modules) if call is not None]
    return tuple((call, getattr(call, "adopted", 0)) for call in calls)
