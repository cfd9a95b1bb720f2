"""A network's start from another one's weights, where the two do the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Origin = Callable[[str, Tensor], Tensor | None]


def inherit(network: Any, origin: Origin) -> int:
    """Fill `network` with what `origin` finds for it; the rest stays as it is.

    Args:
        network: A module.
        origin: Gives the tensor for a name and the tensor that is there now, or None. One of
            another shape is not taken.

    Returns:
        How many numbers were filled in.
    """
    taken: dict[str, Tensor] = {}
    for name, own in network.state_dict().items():
        found = origin(name, own)
        if found is not None and found.shape == own.shape:
            taken[name] = found
    network.load_state_dict(taken, strict=False)
    return sum(tensor.numel() for tensor in taken.values())
