"""Pictures show what the prompt says: colours where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from domains.inference.types import PrecisionMode


def corners(pixels):
    return np.concatenate(
        [
            pixels[y, x].reshape(-1, 3)
            for y in (slice(0, 16), slice(-16, None))
            for x in (slice(0, 16), slice(-16, None))
        ]
    ).mean(axis=0)


@pytest.mark.demonstration
@pytest.mark.parametrize("precision", PrecisionMode)
def test_a_red_apple_on_blue(draw, precision):
    pixels = draw(steps=20, precision=precision).pixels[0].astype(int)
    red, green, blue = corners(pixels)
    assert blue > 150
    assert blue > red + 80
    assert blue > green + 60
    red, green, blue = pixels[112:160, 112:160].reshape(-1, 3).mean(axis=0)
    assert red > 180
    assert red > blue + 80
    assert red > green + 80


def test_a_robot_on_teal(draw):
    pixels = draw(prompt="a robot on a teal background", steps=12).pixels[0].astype(int)
    red, green, blue = corners(pixels)
    assert green > red + 60
    assert blue > red + 60


@pytest.mark.demonstration
def test_another_prompt_gives_another_picture(draw):
    apple, pizza = draw(steps=8), draw(prompt="dog face and a pizza", steps=8)
    difference = np.abs(apple.pixels[0].astype(int) - pizza.pixels[0].astype(int))
    assert difference.mean() > 40
