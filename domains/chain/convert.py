"""Chains between proto and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from deviceops.v1 import finishing_pb2
from domains.chain import types
from domains.chain.errors import InvalidChain
from domains.chain.types import (
    Anchor,
    AskedChain,
    CubeFile,
    DenoiseMethod,
    PadMode,
    ResizeFilter,
)
from domains.conversions import EnumMap, scalars_from
from domains.errors import FieldViolation, Reason
from domains.picture.convert import FITS, image_from_proto
from domains.picture.types import InputImage, ResizeFit

FILTERS = EnumMap(ResizeFilter, finishing_pb2.ResizeFilter, "RESIZE_FILTER_")
ANCHORS = EnumMap(Anchor, finishing_pb2.Anchor, "ANCHOR_")
METHODS = EnumMap(DenoiseMethod, finishing_pb2.DenoiseMethod, "DENOISE_METHOD_")
PAD_MODES = EnumMap(PadMode, finishing_pb2.PadMode, "PAD_MODE_")
_STEPS: Mapping[str, type[types.Step]] = {kind.field: kind for kind in get_args(types.Step)}


def chain_from_proto(
    messages: Iterable[finishing_pb2.PostprocessingStep], path: str
) -> AskedChain:
    """The steps that a client asks for, unchecked but for what has no value here.

    Args:
        messages: One for each step.
        path: Where the list stands in the request ("steps").

    Raises:
        InvalidChain: REQUIRED_FIELD_MISSING, a step that says nothing.
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    steps: list[types.Step] = []
    marks: dict[int, InputImage] = {}
    cubes: dict[int, CubeFile] = {}
    for at, message in enumerate(messages):
        where = f"{path}[{at}]"
        name = message.WhichOneof("step")
        if name is None:
            rule = f"Must say what to do: one of {', '.join(_STEPS)}."
            raise InvalidChain.of(FieldViolation(where, Reason.REQUIRED_FIELD_MISSING, rule))
        asked, kind = getattr(message, name), _STEPS[name]
        steps.append(kind(**scalars_from(asked, kind), **_enums(asked, f"{where}.{name}")))
        if name == "watermark" and asked.WhichOneof("mark") == "image":
            marks[at] = image_from_proto(asked.image)
        elif name == "lut":
            inline = asked.cube if asked.WhichOneof("table") == "cube" else None
            cubes[at] = CubeFile(inline, asked.artifact_id)
    return AskedChain(tuple(steps), marks, cubes)


def _enums(message: Any, path: str) -> dict[str, Any]:
    """What `message` sets of its fields that are enums."""
    match message:
        case finishing_pb2.ResizeStep():
            return {
                "filter": FILTERS.from_proto(
                    message.filter, ResizeFilter.LANCZOS, field=f"{path}.filter"
                ),
                "fit": FITS.from_proto(message.fit, ResizeFit.STRETCH, field=f"{path}.fit"),
            }
        case finishing_pb2.DenoiseStep():
            return {
                "method": METHODS.from_proto(
                    message.method, DenoiseMethod.BILATERAL, field=f"{path}.method"
                )
            }
        case finishing_pb2.PadStep():
            return {
                "mode": PAD_MODES.from_proto(message.mode, PadMode.FILL, field=f"{path}.mode")
            }
        case finishing_pb2.WatermarkStep():
            return {
                "anchor": ANCHORS.from_proto(
                    message.anchor, Anchor.BOTTOM_RIGHT, field=f"{path}.anchor"
                )
            }
    return {}
