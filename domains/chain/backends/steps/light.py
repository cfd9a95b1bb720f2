"""Gains on linear light: exposure and white balance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from domains.chain.backends.canvas import Pixels
from domains.chain.types import ColorStep

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue light in what is seen as bright (ITU-R BT.709)."""
_Numbers = npt.NDArray[np.float64]


def lit(pixels: Pixels, step: ColorStep) -> _Numbers | None:
    """What becomes of each level of each channel: sRGB levels from 0 to 255, not rounded,
    float64 `[3, 256]`; None where the step leaves the light alone.

    Light is an sRGB level's share of 255, decoded as IEC 61966-2-1 says. It is multiplied, in
    this order, by

        auto_white_balance  y / m, with m the mean light of the channel and y the luminance of
                            the three; a channel without light keeps that
        temperature, tint   2^(temperature / 200) for red, 2^(-tint / 200) for green and
                            2^(-temperature / 200) for blue, all divided by the luminance of
                            the three, so that white keeps its own
        exposure_stops      2^exposure_stops

    clipped to 0 to 1, and encoded again. Luminance is 0.2126 red + 0.7152 green + 0.0722 blue.
    """
    gains = np.ones(3)
    if step.auto_white_balance:
        gains = _to_grey(pixels)
    if step.temperature or step.tint:
        balance = np.exp2(np.array((step.temperature, -step.tint, -step.temperature)) / 200)
        gains *= balance / (balance @ LUMINANCE)
    gains *= 2.0**step.exposure_stops
    if (gains == 1).all():
        return None
    levels: _Numbers = 255 * _encoded((gains[:, None] * decoded()).clip(0, 1))
    return levels


def decoded() -> _Numbers:
    """The light of each level, from 0 to 1; float64 `[256]`."""
    shares = np.arange(256) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def counted(pixels: Pixels) -> npt.NDArray[np.int64]:
    """How many pixels have each level of each channel, `[3, 256]`: NumPy's own counting would
    lay every pixel out in eight bytes."""
    return np.array(Image.fromarray(pixels).histogram()).reshape(3, 256)


def _encoded(light: _Numbers) -> _Numbers:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _to_grey(pixels: Pixels) -> _Numbers:
    light = decoded()
    means = np.array([float(light @ count) for count in counted(pixels)])
    means /= pixels.shape[0] * pixels.shape[1]
    luminance = means @ LUMINANCE
    gains: _Numbers = np.divide(luminance, means, out=np.ones(3), where=means > 0)
    return gains
