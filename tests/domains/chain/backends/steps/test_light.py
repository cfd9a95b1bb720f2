"""Exposure and white balance, against the definition pixel by pixel, and Pillow's where it has
the same; deblurring, against the iteration written out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage  # type: ignore[import-untyped]

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.measuring import synthetic
from domains.chain.backends.steps.color import color
from domains.chain.backends.steps.deblur import deblur
from domains.chain.types import ColorStep, DeblurStep
from tests.domains.chain.pictures import counted, ignored, noise, same

Floats = npt.NDArray[np.float64]


def linear(levels: npt.ArrayLike) -> Floats:
    """sRGB levels as light from 0 to 1 (IEC 61966-2-1)."""
    shares = np.asarray(levels, np.float64) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def encoded(light: Floats) -> Floats:
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def luminance(light: Floats) -> Floats:
    return 0.2126 * light[..., 0] + 0.7152 * light[..., 1] + 0.0722 * light[..., 2]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    stops=st.floats(-5, 5),
    temperature=st.floats(-100, 100),
    tint=st.floats(-100, 100),
    balanced=st.booleans(),
)
def test_light_is_as_it_is_written_down(
    seed: int, stops: float, temperature: float, tint: float, balanced: bool
) -> None:
    canvas = noise(6, 4, alpha=True, seed=seed)
    step = ColorStep(
        exposure_stops=stops, temperature=temperature, tint=tint, auto_white_balance=balanced
    )

    found = color(canvas, step, ignored)

    light = linear(canvas.pixels)
    if balanced:
        means = light.mean((0, 1))
        light = light * luminance(means) / means
    warm = np.array([2 ** (temperature / 200), 2 ** (-tint / 200), 2 ** (-temperature / 200)])
    wanted = encoded(light * warm / luminance(warm) * 2**stops)
    assert np.abs(found.pixels - np.rint(wanted)).max() <= 1
    assert found.alpha is canvas.alpha


def test_a_stop_is_twice_the_light_and_goes_back() -> None:
    grey = Canvas(np.full((2, 2, 3), 100, np.uint8))

    brighter = color(grey, ColorStep(exposure_stops=1.0), ignored)

    assert linear(brighter.pixels[0, 0, 0]) == pytest.approx(2 * linear(100), rel=0.02)
    assert same(color(brighter, ColorStep(exposure_stops=-1.0), ignored), grey)


def test_white_balance_takes_a_cast_away() -> None:
    clean = noise(40, 30).pixels
    cast = encoded(linear(clean) * np.array([0.9, 0.6, 0.3])).round().astype(np.uint8)

    found = color(Canvas(cast), ColorStep(auto_white_balance=True), ignored)

    means = linear(found.pixels).mean((0, 1))
    assert np.ptp(means) < 0.02 * means.mean()
    assert luminance(means) == pytest.approx(luminance(linear(cast).mean((0, 1))), rel=0.02)
    black = Canvas(np.zeros((3, 3, 3), np.uint8))
    assert same(color(black, ColorStep(auto_white_balance=True), ignored), black)
    grey = Canvas(np.repeat(clean[..., :1], 3, 2))
    assert same(color(grey, ColorStep(auto_white_balance=True), ignored), grey)


def test_warmer_is_redder_and_tint_goes_to_magenta() -> None:
    grey = Canvas(np.full((1, 1, 3), 128, np.uint8))

    red, green, blue = (
        color(grey, ColorStep(temperature=60.0), ignored).pixels[0, 0].astype(int)
    )
    assert red > green > blue
    red, green, blue = color(grey, ColorStep(tint=60.0), ignored).pixels[0, 0].astype(int)
    assert red == blue
    assert red > green


def test_levels_follow_the_light() -> None:
    canvas = noise(30, 20)
    steps = (ColorStep(exposure_stops=-2.0, tint=20.0), ColorStep(saturation=1.5, contrast=0.7))
    together = ColorStep(exposure_stops=-2.0, tint=20.0, saturation=1.5, contrast=0.7)

    one_by_one = canvas
    for step in steps:
        one_by_one = color(one_by_one, step, ignored)
    found = color(canvas, together, ignored)

    assert np.abs(found.pixels.astype(int) - one_by_one.pixels).max() <= 2
    stretched = color(canvas, ColorStep(exposure_stops=-2.0, auto_contrast=True), ignored)
    assert stretched.pixels.min() == 0
    assert stretched.pixels.max() == 255


# Deblurring.


def gaussian(plane: Floats, radius: float) -> Floats:
    reach = max(1, int(np.ceil(4 * radius)))
    blurred: Floats = ndimage.gaussian_filter(plane, radius, mode="nearest", radius=reach)
    return blurred


def restored(pixels: Pixels, radius: float, iterations: int) -> Floats:
    """Richardson and Lucy, in double precision."""
    planes = []
    for channel in range(3):
        plane = pixels[..., channel].astype(np.float64)
        found = plane.copy()
        for _ in range(iterations):
            found = found * gaussian(plane / np.maximum(gaussian(found, radius), 1e-3), radius)
        planes.append(found)
    return np.rint(np.dstack(planes).clip(0, 255))


@pytest.mark.parametrize(("radius", "iterations"), [(1.0, 10), (0.1, 3), (2.5, 30), (10.0, 2)])
def test_deblurring_is_the_iteration_that_is_written_down(
    radius: float, iterations: int
) -> None:
    canvas = noise(31, 23, alpha=True)
    canvas.pixels[:5] = 0
    told, between = counted()

    found = deblur(canvas, DeblurStep(radius, iterations), between)

    wanted = restored(canvas.pixels, radius, iterations)
    # A level where single precision rounds the other way.
    assert np.abs(found.pixels - wanted).max() <= 1
    assert found.alpha is canvas.alpha
    assert told == [(done, 3 * iterations) for done in range(1, 3 * iterations + 1)]


def test_deblurring_brings_a_blurred_picture_nearer_to_what_it_was() -> None:
    sharp = synthetic(96).pixels
    blurred = np.dstack([gaussian(sharp[..., k].astype(float), 1.5) for k in range(3)])
    canvas = Canvas(blurred.round().astype(np.uint8))

    found = deblur(canvas, DeblurStep(1.5, 10), ignored)

    before, after = (
        np.sqrt(((one.pixels.astype(float) - sharp) ** 2).mean()) for one in (canvas, found)
    )
    assert after < 0.85 * before
    flat = Canvas(np.full((8, 9, 3), 97, np.uint8))
    assert same(deblur(flat, DeblurStep(3.0), ignored), flat)
    black = Canvas(np.zeros((4, 4, 3), np.uint8))
    assert same(deblur(black, DeblurStep(), ignored), black)
