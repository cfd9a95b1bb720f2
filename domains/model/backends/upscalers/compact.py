"""Compact: a stack of convolutions with a slope for negative numbers between them.

Known as SRVGGNetCompact (Wang et al., "Real-ESRGAN", 2021). Its layers are numbered:
`body.0` is a convolution, `body.1` its slopes, and so on to a last convolution, which gives
`factor` x `factor` sub-pixels for each pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from domains.model.backends.recognition.tensors import Shape
from domains.model.backends.stored_weights import incomplete
from domains.model.backends.upscalers.design import (
    MOST_FACTOR,
    UPSCALER,
    UpscalerDesign,
    check,
    not_for_pictures,
)

_LAYER = re.compile(r"body\.(\d{1,5})\.weight")
# Hidden channels: what a layer takes, gives, and lays out for itself. Then the sub-pixels, as
# they come, in their places, and with the enlarged picture that is added.
_HIDDEN, _GIVEN = 3, 4


def read(stored: Mapping[str, Shape]) -> UpscalerDesign:
    """The network of a file whose tensors have these shapes; see `design_of`."""
    layers = [int(found[1]) for name in stored if (found := _LAYER.fullmatch(name))]
    last = max(layers, default=0)
    first, slopes = stored.get("body.0.weight", ()), stored.get("body.1.weight", ())
    end = stored.get(f"body.{last}.weight", ())
    if len(first) != 4 or len(slopes) != 1 or len(end) != 4 or last < 2:
        # The last convolution is missing where the last layer is slopes.
        raise incomplete(UPSCALER, [f"body.{last + 1}.weight"], [])
    features, channels, given = first[0], first[1], end[0]
    factor = math.isqrt(given // channels) if channels else 0
    if channels not in (1, 3) or factor**2 * channels != given or factor > MOST_FACTOR:
        raise not_for_pictures(channels, given)
    depth = (last - 2) // 2
    wanted = shapes(channels, features, depth, factor, slopes[0])
    check(stored, wanted, {name: name for name in stored})
    return UpscalerDesign(
        kind="Compact",
        factor=factor,
        channels=channels,
        unit=1,
        reach=depth + 2,
        arguments={
            "channels": channels,
            "features": features,
            "depth": depth,
            "factor": factor,
            "slopes": slopes[0],
        },
        names={name: name for name in wanted},
        numbers_per_pixel=_HIDDEN * features + _GIVEN * given,
    )


def shapes(
    channels: int, features: int, depth: int, factor: int, slopes: int
) -> dict[str, Shape]:
    """Every tensor of such a network; `slopes` is 1 where all channels share one."""
    found: dict[str, Shape] = {}
    for layer in range(depth + 1):
        taken = features if layer else channels
        found[f"body.{2 * layer}.weight"] = (features, taken, 3, 3)
        found[f"body.{2 * layer}.bias"] = (features,)
        found[f"body.{2 * layer + 1}.weight"] = (slopes,)
    found[f"body.{2 * depth + 2}.weight"] = (channels * factor**2, features, 3, 3)
    found[f"body.{2 * depth + 2}.bias"] = (channels * factor**2,)
    return found
