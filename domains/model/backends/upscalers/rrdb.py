"""RRDB: residual blocks of residual dense blocks, then enlargements by two.

ESRGAN (Wang et al., 2018), BSRGAN and Real-ESRGAN are of it, under three sets of names. With
1x and 2x models of Real-ESRGAN, the picture is first folded into more channels of a smaller
one, so that they cost less than 4x.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from domains.errors import FailedPrecondition, Reason
from domains.model.backends.recognition.tensors import Shape
from domains.model.backends.stored_weights import incomplete
from domains.model.backends.upscalers.design import (
    MOST_FACTOR,
    UPSCALER,
    UpscalerDesign,
    check,
    not_for_pictures,
)

DENSE, LAYERS = 3, 5
_DENSE = re.compile(
    r"(?:body|RRDB_trunk|model\.1\.sub)\.(\d{1,4})\.rdb([1-3])\.conv([1-5])(?:\.0)?"
    r"\.(weight|bias)",
    re.IGNORECASE,
)
_TRUNK = {"trunk_conv": "conv_body", "HRconv": "conv_hr"}
_UP = re.compile(r"(?:conv_up|upconv)(\d)")
_PLACE = re.compile(r"model\.(\d{1,3})\.(weight|bias)")
_BODY_END = re.compile(r"model\.1\.sub\.(\d{1,4})\.(weight|bias)")
_FOLDED = (1, 2, 4)
# At full size: what an enlargement takes, gives, and lays out for itself.
_COPIES = 4


def read(stored: Mapping[str, Shape]) -> UpscalerDesign:
    """The network of a file whose tensors have these shapes; see `design_of`."""
    names = _names(stored)
    by_name = {new: stored[old] for old, new in names.items()}
    numbers = (int(name.split(".")[1]) for name in by_name if name.startswith("body."))
    blocks = 1 + max(numbers, default=0)
    enlargements = max((int(n[7]) for n in by_name if n.startswith("conv_up")), default=0)
    first, end = by_name.get("conv_first.weight", ()), by_name.get("conv_last.weight", ())
    dense = by_name.get("body.0.rdb1.conv1.weight", ())
    if not len(first) == len(end) == len(dense) == 4:
        wanted = ("conv_first.weight", "conv_last.weight", "body.0.rdb1.conv1.weight")
        raise incomplete(UPSCALER, [n for n in wanted if len(by_name.get(n, ())) != 4], [])
    if blocks > len(stored):
        raise incomplete(UPSCALER, [f"the blocks before body.{blocks - 1}"], [])
    features, taken, channels, growth = first[0], first[1], end[0], dense[0]
    folded = math.isqrt(taken // channels) if channels else 0
    if channels not in (1, 3) or folded not in _FOLDED or folded**2 * channels != taken:
        raise not_for_pictures(taken, channels)
    enlarged = 2**enlargements
    if enlarged % folded or enlarged // folded > MOST_FACTOR:
        raise FailedPrecondition(
            f"The upscaler's factor would be {enlarged} / {folded}; it has to be a whole "
            f"number from 1 to {MOST_FACTOR}.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"kind": UPSCALER},
        )
    arguments = {
        "taken": taken,
        "channels": channels,
        "features": features,
        "growth": growth,
        "blocks": blocks,
        "enlargements": enlargements,
        "folded": folded,
    }
    check(stored, shapes(**{k: v for k, v in arguments.items() if k != "folded"}), names)
    small = _COPIES * features + 2 * (features + LAYERS * growth)
    return UpscalerDesign(
        kind="RRDB",
        factor=enlarged // folded,
        channels=channels,
        unit=folded,
        # A convolution reaches one pixel further; those behind an enlargement, a part of one.
        reach=folded * (2 + blocks * DENSE * LAYERS + enlargements + 2),
        arguments=arguments,
        names={new: old for old, new in names.items()},
        numbers_per_pixel=max(small, _COPIES * features * enlarged**2) // folded**2,
    )


def shapes(
    taken: int, channels: int, features: int, growth: int, blocks: int, enlargements: int
) -> dict[str, Shape]:
    """Every tensor of such a network by Real-ESRGAN's names."""
    layers = {"conv_first": (features, taken), "conv_body": (features, features)}
    for block in range(blocks):
        for dense in range(1, DENSE + 1):
            for layer in range(1, LAYERS + 1):
                given = features if layer == LAYERS else growth
                into = features + (layer - 1) * growth
                layers[f"body.{block}.rdb{dense}.conv{layer}"] = (given, into)
    for number in range(1, enlargements + 1):
        layers[f"conv_up{number}"] = (features, features)
    layers |= {"conv_hr": (features, features), "conv_last": (channels, features)}
    found: dict[str, Shape] = {}
    for name, (given, into) in layers.items():
        found[f"{name}.weight"] = (given, into, 3, 3)
        found[f"{name}.bias"] = (given,)
    return found


def _names(stored: Mapping[str, Shape]) -> dict[str, str]:
    """Real-ESRGAN's name of each tensor that has one, by the file's."""
    places = sorted({int(match[1]) for name in stored if (match := _PLACE.fullmatch(name))})
    by_place = {}
    if len(places) >= 3:
        # In a sequence, what does not learn has places too: only the order tells.
        by_place = {places[0]: "conv_first", places[-2]: "conv_hr", places[-1]: "conv_last"}
        by_place |= {place: f"conv_up{i}" for i, place in enumerate(places[1:-2], 1)}
    found: dict[str, str] = {}
    for name in stored:
        top, _, end = name.rpartition(".")
        if dense := _DENSE.fullmatch(name):
            found[name] = f"body.{int(dense[1])}.rdb{dense[2]}.conv{dense[3]}.{dense[4]}"
        elif place := _PLACE.fullmatch(name):
            if int(place[1]) in by_place:
                found[name] = f"{by_place[int(place[1])]}.{end}"
        elif _BODY_END.fullmatch(name):
            found[name] = f"conv_body.{end}"
        elif up := _UP.fullmatch(top):
            found[name] = f"conv_up{up[1]}.{end}"
        elif top in _TRUNK or top in ("conv_first", "conv_body", "conv_hr", "conv_last"):
            found[name] = f"{_TRUNK.get(top, top)}.{end}"
    return found
