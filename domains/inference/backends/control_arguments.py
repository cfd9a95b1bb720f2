"""What tells a ControlNet of its pictures; unions are told in other words than the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from domains.values import ControlNetType


def control_arguments(
    network: Any,
    images: Sequence[torch.Tensor],
    scales: list[float],
    types: Sequence[ControlNetType | None],
) -> dict[str, Any]:
    """Arguments of diffusers' `ControlNetModel`, or of its `ControlNetUnionModel`.

    Args:
        network: One of the two.
        images: Control pictures, `[rows, channels, height, width]` in the network's type; one,
            but for a union.
        scales: The strength of each.
        types: What a union takes each for.
    """
    if not is_union(network):
        return {"controlnet_cond": images[0], "conditioning_scale": scales[0]}
    # Its pictures go through attention along the rows of the batch, so that rows are not
    # independent: never more than one picture that is drawn, with and without its prompt.
    numbers = [each.number for each in types if each is not None]
    kind = images[0]
    marks = torch.zeros(kind_count(network), dtype=kind.dtype, device=kind.device)
    marks[numbers] = 1
    return {
        "controlnet_cond": list(images),
        "control_type": marks.repeat(kind.shape[0], 1),
        "control_type_idx": numbers,
        "conditioning_scale": scales,
    }


def is_union(network: Any) -> bool:
    """Whether it holds several kinds of control."""
    return kind_count(network) > 0


def kind_count(network: Any) -> int:
    """How many kinds of control a union holds; 0 of other ControlNets."""
    return int(network.config.get("num_control_type", 0))
