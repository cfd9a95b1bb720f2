"""ControlNets of a generation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated

from msgspec import Meta

from domains.codec import FEW, Measure, Value
from domains.inference.types.passes import Share
from domains.limits import default_of
from domains.picture.types import ControlPreprocessor, PictureFile, ResizeFit
from domains.values import ControlNetType


class ControlNetGuidance(Value, frozen=True):
    """A ControlNet and its share: how strongly it works, and between which shares of the steps.

    `control_type` is what a union takes the picture for; None for ControlNets with one purpose.
    In `guess_mode` it works on the half with the prompt alone. `image` is the control picture,
    or `images` one for each picture drawn; `mask` is where it works. They are None or empty
    until they were prepared.
    """

    model_id: Annotated[str, Meta(max_length=256)] = ""
    preprocessor: ControlPreprocessor | None = None
    conditioning_scale: Measure = default_of("ControlNetGuidance.conditioning_scale")
    start: Share = default_of("ControlNetGuidance.start")
    end: Share = default_of("ControlNetGuidance.end")
    guess_mode: bool = False
    control_type: ControlNetType | None = None
    fit: ResizeFit = ResizeFit.STRETCH
    image: PictureFile | None = None
    images: Annotated[tuple[PictureFile, ...], FEW] = ()
    mask: PictureFile | None = None


def most_in_a_union(nets: Sequence[ControlNetGuidance]) -> int:
    """Pictures of the call of a union that takes most of them; 0 without a union."""
    return max(
        (len(each) for each in asked_together(nets) if nets[each[0]].control_type), default=0
    )


def asked_together(nets: Sequence[ControlNetGuidance]) -> list[list[int]]:
    """Which of them are one call of a network, by their places: a union takes all its pictures
    at once, unless they are to work in other ways or elsewhere."""
    calls: dict[Hashable, list[int]] = {}
    for place, net in enumerate(nets):
        where = None if net.mask is None else (net.mask, net.fit)  # one file, fitted so
        how = (net.model_id, net.guess_mode, where)
        calls.setdefault(place if net.control_type is None else how, []).append(place)
    return list(calls.values())
