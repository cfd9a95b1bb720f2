"""Calls of a denoiser for several pictures, made as one call of a larger batch.

Pictures may be at different steps: a UNet takes a timestep for each row of its batch
(diffusers' `UNet2DConditionModel.forward`), and no row of it sees another.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from domains.inference.backends.tree_forms import as_key


@dataclass(frozen=True)
class DenoiserCall:
    """One picture's: its sample `[rows, channels, height, width]`, one timestep, and further
    arguments whose tensors have as many rows."""

    sample: torch.Tensor
    timestep: torch.Tensor
    further: dict[str, Any]

    @property
    def rows(self) -> int:
        """1, or 2 with guidance."""
        return int(self.sample.shape[0])

    def kind(self) -> Hashable:
        """Equal for calls that can be made as one: all but their rows are of one shape."""
        leaves, form = pytree.tree_flatten((self.sample, self.further))
        return as_key(form), tuple(
            (leaf.shape[1:], leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf
            for leaf in leaves
        )


def call_alone(network: Callable[..., Any], call: DenoiserCall) -> Any:
    """The call as it was asked for, bit for bit."""
    return network(call.sample, call.timestep, **call.further)


def call_together(network: Callable[..., Any], calls: Sequence[DenoiserCall]) -> list[Any]:
    """All calls as one.

    Args:
        network: Its outputs are tensors in tuples, of as many rows as its inputs.
        calls: All of one kind.

    Returns:
        What each of them asked for, in their order.
    """
    device = calls[0].sample.device
    # Some samplers' timesteps are whole numbers, others lie between them.
    timesteps = [each.timestep.to(device, torch.float32).expand(each.rows) for each in calls]
    found = network(
        torch.cat([each.sample for each in calls]),
        torch.cat(timesteps),
        **_joined([each.further for each in calls]),
    )
    rows = [each.rows for each in calls]
    leaves, form = pytree.tree_flatten(found)
    shares = zip(*(leaf.split(rows) for leaf in leaves), strict=True)
    return [pytree.tree_unflatten(list(share), form) for share in shares]


def _joined(arguments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    flat = [pytree.tree_flatten(each) for each in arguments]
    form = flat[0][1]
    leaves = [
        torch.cat(each) if isinstance(each[0], torch.Tensor) else each[0]
        for each in zip(*(leaves for leaves, _ in flat), strict=True)
    ]
    joined: dict[str, Any] = pytree.tree_unflatten(leaves, form)
    return joined
