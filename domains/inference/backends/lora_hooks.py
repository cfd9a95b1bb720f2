"""What a LoRA adds to the output of one layer.

For plain LoRAs the order of operations is that of peft's layers that are not merged
(`tuners/lora/layer.py`), so that pictures come out as from diffusers' `load_lora_weights` and
`set_adapters`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from domains.device.backends import faults
from domains.inference.backends.lora_changes import Parts, scaling_of, whole_change
from domains.inference.backends.lora_places import FilledPlaces, LoraPlaces
from domains.inference.backends.network_state import PlacedHook, Places
from domains.inference.backends.step_graphs import MOST_PLACED_BYTES
from domains.model.backends.lora.endings import Algorithm
from domains.model.backends.lora.layers import Layer
from domains.model.backends.lora.targets import Target

Factor = float | torch.Tensor
"""A number, or where it is: float32 `[1]`."""


@dataclass(frozen=True, eq=False)
class LayerChange(PlacedHook):
    """The forward hook of `module` that adds what one LoRA changes about it.

    `tensors` are in the type of its weights: `down`, perhaps `mid`, and `up` with perhaps an
    `up_bias`, or the `whole` matrix; what is added to the `bias`. The result of the first is
    multiplied with `product`, the bias with `strength`.
    """

    layer: Layer
    module: Any
    tensors: Mapping[str, torch.Tensor]
    product: Factor
    strength: Factor
    places: Places | None = None

    def __call__(
        self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], result: torch.Tensor
    ) -> torch.Tensor:
        """The layer's output with the change."""
        tensors = self.tensors
        if "down" in tensors:
            result = result + _times(self._through_pair(inputs[0]), self.product)
        elif "whole" in tensors:
            change = _through(self.module, inputs[0], tensors["whole"])
            result = result + _times(change, self.product)
        if "bias" in tensors:
            result = result + _times(tensors["bias"].clone(), self.strength)
        return result

    def _through_pair(self, given: torch.Tensor) -> torch.Tensor:
        down, up, bias = (self.tensors.get(name) for name in ("down", "up", "up_bias"))
        assert down is not None, "it has a pair"
        assert up is not None, "it has a pair"
        if isinstance(self.module, nn.Linear):
            return functional.linear(functional.linear(given, down), up, bias)
        mid = self.tensors.get("mid")
        if mid is None:
            lower = _through(self.module, given, down)
        else:
            lower = _through(self.module, functional.conv2d(given, down), mid)
        return functional.conv2d(lower, up, bias)


def change_of(target: Target, parts: Parts, module: Any, strength: float) -> LayerChange:
    """What a LoRA changes about a layer.

    Args:
        target: The layer, and how the change is written down.
        parts: Its tensors, which stay as they are.
        module: That layer, linear or a convolution.
        strength: How strongly it works.
    """
    weight: torch.Tensor = module.weight
    own = {name: part.to(weight.device) for name, part in parts.items()}
    if target.algorithm is Algorithm.LORA and "magnitude" not in own:
        tensors = _pair(own, module)
        product = strength * scaling_of(Algorithm.LORA, own)
    else:
        change = whole_change(target.algorithm, own, weight)
        tensors = {} if change is None else {"whole": change.to(weight.dtype)}
        product = strength
    if "diff_b" in own:
        bias = own["diff_b"].to(weight.dtype)
        shape = (-1, 1, 1) if isinstance(module, nn.Conv2d) else (-1,)
        tensors["bias"] = bias.reshape(shape)
    return LayerChange(target.layer, module, tensors, product, strength)


@contextmanager
def in_places(hooks: list[LayerChange], lender: LoraPlaces) -> Iterator[list[LayerChange]]:
    """The same with their tensors and factors in places that are lent, so that they can be
    recorded; as they are where that takes more memory than it may, or than there is.

    Args:
        hooks: All that work on one network; emptied, so that their tensors can go.
        lender: Of that network.
    """
    places = _filled(hooks, lender)
    if places is None:
        yield hooks
        return
    own, factors = iter(places.own), iter(places.factors)
    placed = [
        replace(
            each,
            tensors={name: next(own) for name in each.tensors},
            product=next(factors),
            strength=next(factors),
            places=places,
        )
        for each in hooks
    ]
    hooks.clear()
    try:
        yield placed
    finally:
        lender.give_back(places)


def _filled(hooks: Sequence[LayerChange], lender: LoraPlaces) -> FilledPlaces | None:
    tensors = [tensor for each in hooks for tensor in each.tensors.values()]
    if not 0 < sum(tensor.nbytes for tensor in tensors) <= MOST_PLACED_BYTES:
        return None
    what = tuple((each.layer, tuple(each.tensors)) for each in hooks)
    factors = [float(one) for each in hooks for one in (each.product, each.strength)]
    try:
        return lender.lend(what, tensors, factors)
    except Exception as error:
        if not faults.is_shortage(error):
            raise
        faults.drop_frames(error)
    return None


def _pair(parts: Parts, module: Any) -> dict[str, torch.Tensor]:
    """A LoRA by its two matrices, or convolutions."""
    kind = module.weight.dtype
    named = {"down": "down", "mid": "mid", "up": "up", "up_bias": "up_bias"}
    found = {own: parts[name].to(kind) for own, name in named.items() if name in parts}
    for name in ("down", "up"):
        if isinstance(module, nn.Linear):
            # Apart from those on the shelf: it is only here that they require gradients.
            found[name] = found[name].detach().flatten(1).requires_grad_()
        else:
            found[name] = _as_kernel(found[name])
    return found


def _times(own: torch.Tensor, factor: Factor) -> torch.Tensor:
    """The product, whose bits are the same wherever the factor is.

    A number is multiplied with in float32, and the product rounded to the type of the tensor.
    So is one in memory, if it has a dimension: without one it would be rounded before.

    Args:
        own: Nobody else needs it.
        factor: The number.
    """
    return own.mul_(factor) if isinstance(factor, torch.Tensor) else own * factor


def _as_kernel(matrix: torch.Tensor) -> torch.Tensor:
    return matrix if matrix.dim() == 4 else matrix.reshape(*matrix.shape, 1, 1)


def _through(module: Any, given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the layer would give with other weights and no bias."""
    if isinstance(module, nn.Linear):
        return functional.linear(given, weight)
    return functional.conv2d(
        given, weight, None, module.stride, module.padding, module.dilation, module.groups
    )
