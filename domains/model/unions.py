"""Union ControlNets: one network for several kinds of control pictures.

Source: xinsir6/ControlNetPlus, which numbers the kinds by the rows of its `task_embedding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class ControlNetType(Enum):
    """What a union takes a control picture for, in the order of its embeddings."""

    POSE = "pose"
    DEPTH = "depth"
    SOFT_EDGE = "soft-edge"
    EDGE = "edge"
    NORMAL = "normal"
    SEGMENT = "segment"
    TILE = "tile"
    REPAINT = "repaint"

    @property
    def number(self) -> int:
        """Which of a network's embeddings is its own, from 0."""
        return list(ControlNetType).index(self)


UNION, PROMAX = "ControlNet union", "ControlNet union ProMax"
_TYPES: Mapping[str, tuple[ControlNetType, ...]] = {
    UNION: tuple(ControlNetType)[: ControlNetType.TILE.number],
    PROMAX: tuple(ControlNetType),
}


def types_of(kind: str) -> tuple[ControlNetType, ...]:
    """What models of a kind (`Model.kind`) take control pictures for; nothing where they are
    no unions."""
    return _TYPES.get(kind, ())


def listed(types: tuple[ControlNetType, ...]) -> str:
    """Their names in the contract, for a sentence."""
    return ", ".join(each.name for each in types)
