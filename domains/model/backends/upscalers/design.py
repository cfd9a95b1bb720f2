"""An upscaler's network as its file's tensors describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.recognition.tensors import Shape
from domains.model.backends.stored_weights import incomplete, misshapen

UPSCALER = "upscaler"
"""What the network is called in messages."""
MOST_FACTOR = 8
"""The greatest enlargement of one pass."""


@dataclass(frozen=True)
class UpscalerDesign:
    """One network, whole: every tensor of it is stored in its shape.

    Attributes:
        kind: Its architecture, as recognition calls it.
        factor: Enlargement of an edge.
        channels: Of the pictures it takes and gives: 3 for colours, 1 for grey.
        unit: Edges of what it takes are multiples of this.
        reach: How many pixels away a pixel of what it takes can change a place of what it
            gives, at most.
        arguments: What its class is built with.
        names: What the file calls each of its tensors.
        numbers_per_pixel: How many numbers it keeps at once for a pixel that it takes.
    """

    kind: str
    factor: int
    channels: int
    unit: int
    reach: int
    arguments: Mapping[str, int]
    names: Mapping[str, str]
    numbers_per_pixel: int

    def behind(self, prefix: str) -> UpscalerDesign:
        """The same in a file that has a prefix before each name."""
        return replace(self, names={name: prefix + old for name, old in self.names.items()})


def check(
    stored: Mapping[str, Shape], wanted: Mapping[str, Shape], names: Mapping[str, str]
) -> None:
    """Refuse a file that does not hold exactly the tensors of a network.

    Args:
        stored: Shapes by the file's names.
        wanted: Shapes by the network's names.
        names: The network's name of each of the file's that any network has.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE or MODEL_SHAPE_INVALID.
    """
    by_new = {new: old for old, new in names.items()}
    # Also what is stored twice, under the names of two programs.
    unexpected = [
        name for name in stored if names.get(name) not in wanted or by_new[names[name]] != name
    ]
    missing = sorted(wanted.keys() - by_new.keys())
    if missing or unexpected:
        raise incomplete(UPSCALER, missing, unexpected)
    for old, new in names.items():
        if stored[old] != wanted[new]:
            raise misshapen(UPSCALER, old)


def not_for_pictures(taken: int, given: int) -> FailedPrecondition:
    """MODEL_INCOMPATIBLE: a network between other things than pictures."""
    return FailedPrecondition(
        f"The upscaler takes {taken} channels and gives {given}, which are not those of larger "
        "pictures in colour or grey; use another one.",
        reason=Reason.MODEL_INCOMPATIBLE,
        metadata={"kind": UPSCALER},
    )
