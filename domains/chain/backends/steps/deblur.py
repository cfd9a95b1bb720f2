"""A blur undone."""

from __future__ import annotations

import numpy as np

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.bands import Between
from domains.chain.types import DeblurStep
from domains.picture.backends.control.gaussian import blurred

# Of a level: what light there is at least, so that nothing is divided by nothing.
_LEAST = np.float32(1e-3)


def deblur(canvas: Canvas, step: DeblurStep, between: Between) -> Canvas:
    """Find the picture that a Gaussian blur made this one of (Richardson, 1972; Lucy, 1974).

    On each channel p of sRGB levels, from 0 to 255, each time on what the time before found, at
    first on p itself:

        found = found * G(p / max(G(found), 0.001))

    and at the end rounded to the nearest level, halves to even, and clipped. G is a Gaussian of
    standard deviation `radius_pixels`, cut off after four of those; pixels of the rim go on
    beyond it. It is its own mirror image. Alpha stays, and colours are taken whatever it is.
    """
    result = np.empty_like(canvas.pixels)
    for channel in range(3):
        plane = canvas.pixels[..., channel].astype(np.float32)
        found = plane.copy()
        for iteration in range(1, step.iterations + 1):
            again = blurred(found, step.radius_pixels)
            np.divide(plane, np.maximum(again, _LEAST, out=again), out=again)
            found *= blurred(again, step.radius_pixels)
            between(channel * step.iterations + iteration, 3 * step.iterations)
        result[..., channel] = np.rint(found).clip(0, 255)
    return Canvas(result, canvas.alpha)
