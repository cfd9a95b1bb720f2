"""What a network's calls depend on beside their arguments, as far as recordings must know."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import nn


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


class PlacedHook:
    """A forward hook whose calls can be recorded: all that it computes with lies in `places`,
    which say as well what it does. None where that is not so."""

    places: Places | None = None


class PlacedProcessor:
    """An attention processor with numbers of its own, likewise; others have none."""

    places: tuple[Places, ...] | None = None


def hooks_of(modules: Iterable[nn.Module]) -> tuple[Places, ...] | None:
    """Where what hooks and attention processors compute with lies, each place once; None where
    one is there of which that is not known."""
    found: dict[Places, None] = {}
    # Of a thousand layers hardly one has anything.
    for module in [each for each in modules if _may_have_places(each)]:
        processor = module.__dict__.get("processor")
        if isinstance(processor, PlacedProcessor):
            if processor.places is None:
                return None
            found |= dict.fromkeys(processor.places)
        if module._forward_pre_hooks:
            return None
        for hook in module._forward_hooks.values():
            if not isinstance(hook, PlacedHook) or hook.places is None:
                return None
            found[hook.places] = None
    return tuple(found)


def _may_have_places(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or "processor" in module.__dict__
    )


def weights_of(modules: list[nn.Module]) -> Hashable:
    """Where its numbers lie; recorded calls know these places alone."""
    kept: list[Any] = [each._parameters for each in modules]
    kept += [each._buffers for each in modules]
    tensors = [tensor for table in kept for tensor in table.values() if tensor is not None]
    types = [tensor.dtype for tensor in tensors]
    return tuple(map(torch.Tensor.data_ptr, tensors)), tuple(types)


def code_of(modules: Iterable[nn.Module]) -> tuple[Hashable, ...]:
    """The compiled code that runs for it, itself, and how much of it; empty without any."""
    return tuple(
        (module._compiled_call_impl, getattr(module._compiled_call_impl, "adopted", 0))
        for module in modules
        if module._compiled_call_impl is not None
    )
