"""Turning and putting more around, against references that share no code with them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.crop import crop
from domains.chain.backends.steps.pad import pad
from domains.chain.backends.steps.rotate import rotate
from domains.chain.types import CropStep, PadMode, PadStep, RotateStep
from tests.domains.chain.pictures import counted, ignored, noise, same

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
SIDES = st.tuples(*4 * (st.integers(0, 30),))


# Turning.


@settings(max_examples=40, deadline=None)
@given(size=SIZES, alpha=st.booleans(), turns=st.integers(-4, 4), mirror=st.booleans())
def test_quarter_turns_move_pixels_and_four_are_none(
    size: tuple[int, int], alpha: bool, turns: int, mirror: bool
) -> None:
    canvas = noise(*size, alpha=alpha)
    step = RotateStep(turns * 90.0, mirror)

    found = rotate(canvas, step, ignored)

    whole = canvas.whole()[:, ::-1] if mirror else canvas.whole()
    for _ in range(turns % 4):
        # Clockwise: what was the lowest row is the first column.
        whole = np.stack([whole[::-1, k] for k in range(whole.shape[1])])
    assert np.array_equal(found.whole(), whole)
    assert found.size == step.size_after(size)
    for _ in range(3):
        found = rotate(found, RotateStep(turns * 90.0), ignored)
    assert same(rotate(found, RotateStep(mirror=mirror, degrees=0.0), ignored), canvas)


def cubic(away: float) -> float:
    """Keys' kernel with a = -1."""
    away = abs(away)
    if away < 1:
        return away**3 - 2 * away**2 + 1
    return -(away**3) + 5 * away**2 - 8 * away + 4 if away < 2 else 0.0


def turned(canvas: Canvas, degrees: float, fill: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The definition, pixel by pixel: red, green, blue and alpha."""
    width, height = canvas.size
    alpha = np.full((height, width), 255) if canvas.alpha is None else canvas.alpha
    weighted = np.dstack((canvas.pixels * (alpha[..., None] / 255.0), alpha, alpha * 0 + 255.0))
    size = RotateStep(degrees).size_after(canvas.size)
    result = np.zeros((size[1], size[0], 4))
    angle = math.radians(degrees)
    for y, x in itertools.product(range(size[1]), range(size[0])):
        right, down = x + 0.5 - size[0] / 2, y + 0.5 - size[1] / 2
        at_x = right * math.cos(angle) + down * math.sin(angle) + width / 2 - 0.5
        at_y = down * math.cos(angle) - right * math.sin(angle) + height / 2 - 0.5
        total = np.zeros(5)
        for row, column in itertools.product(range(height), range(width)):
            total += cubic(at_y - row) * cubic(at_x - column) * weighted[row, column]
        total = total.clip(0, 255)
        around = fill[3] / 255 * (1 - total[4] / 255)
        seen = total[3] + 255 * around
        result[y, x, 3] = seen
        if seen > 0:
            result[y, x, :3] = (total[:3] + around * np.array(fill[:3])) * 255 / seen
    return np.rint(result.clip(0, 255))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("degrees", "fill"), [(10.0, ""), (-133.3, "#336699"), (359.0, "#ff000080")]
)
def test_other_angles_are_bicubic(degrees: float, fill: str, alpha: bool) -> None:
    canvas = noise(7, 5, alpha=alpha)
    colour = {"": (0, 0, 0, 0), "#336699": (51, 102, 153, 255), "#ff000080": (255, 0, 0, 128)}

    found = rotate(canvas, RotateStep(degrees, fill=fill), ignored)

    wanted = turned(canvas, degrees, colour[fill])
    assert found.size == (wanted.shape[1], wanted.shape[0])
    assert (found.alpha is None) is (fill == "#336699" and not alpha)
    plain = np.full(wanted.shape[:2], 255) if found.alpha is None else found.alpha
    assert np.abs(plain - wanted[..., 3]).max() <= 1
    # Of what is hardly seen a level of alpha is many of colour.
    seen = wanted[..., 3] > 32
    assert np.abs(found.pixels.astype(float) - wanted[..., :3])[seen].max() <= 2


def test_a_hair_beside_a_quarter_turn_is_nearly_one() -> None:
    canvas = noise(9, 6)

    for turns in (1, 2, 3):
        exact = rotate(canvas, RotateStep(90.0 * turns), ignored)
        found = rotate(canvas, RotateStep(90.0 * turns + 1e-6), ignored)

        assert found.size == exact.size
        assert np.abs(found.pixels.astype(int) - exact.pixels).max() <= 1


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 4_000), st.integers(1, 4_000)), degrees=st.floats(-360, 360)
)
def test_the_canvas_holds_the_whole_picture(size: tuple[int, int], degrees: float) -> None:
    found = RotateStep(degrees).size_after(size)

    middle = complex(size[0] / 2, size[1] / 2)
    turn = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    corners = [(complex(x, y) - middle) * turn for x in (0, size[0]) for y in (0, size[1])]
    for edge, places in zip(
        found, ([c.real for c in corners], [c.imag for c in corners]), strict=True
    ):
        reach = max(places) - min(places)
        assert reach - 2e-3 <= edge < reach + 1


def test_turning_tells_of_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, step = noise(20, 30, alpha=True), RotateStep(77.0)
    whole = rotate(canvas, step, ignored)
    monkeypatch.setattr("domains.chain.backends.steps.rotate._ROWS", 10)
    told, between = counted()

    found = rotate(canvas, step, between)

    pieces = -(-found.size[1] // 10)
    assert told == [(done, pieces) for done in range(1, pieces + 1)]
    assert np.abs(found.whole().astype(int) - whole.whole()).max() <= 1


# More around.


@settings(max_examples=80, deadline=None)
@given(size=SIZES, sides=SIDES, alpha=st.booleans(), mode=st.sampled_from(PadMode))
def test_a_padded_picture_is_numpys_and_crops_to_what_it_was(
    size: tuple[int, int], sides: tuple[int, int, int, int], alpha: bool, mode: PadMode
) -> None:
    canvas = noise(*size, alpha=alpha)
    left, top, right, bottom = sides
    step = PadStep(*sides, mode, "#336699" if mode is PadMode.FILL else "")

    found = pad(canvas, step, ignored)

    around = ((top, bottom), (left, right), (0, 0))
    if mode is PadMode.FILL:
        fills = (51, 102, 153, 255)
        planes = [
            np.pad(plane, around[:2], constant_values=fill)
            for plane, fill in zip(np.moveaxis(canvas.whole(), 2, 0), fills, strict=False)
        ]
        wanted = np.dstack(planes)
    else:
        wanted = np.pad(canvas.whole(), around, mode=mode.value)
    assert np.array_equal(found.whole(), wanted)
    assert found.size == step.size_after(size)
    assert same(crop(found, CropStep(left, top, *size), ignored), canvas)


@pytest.mark.parametrize(
    ("fill", "level"), [("", (0, 0, 0, 0)), ("#ff800040", (255, 128, 0, 64))]
)
def test_a_colour_that_is_not_opaque_makes_an_alpha(fill: str, level: tuple[int, ...]) -> None:
    canvas = noise(3, 2)

    found = pad(canvas, PadStep(1, 2, 3, 4, fill=fill), ignored)

    assert tuple(found.whole()[0, 0]) == level
    inside = crop(found, CropStep(1, 2, 3, 2), ignored)
    assert np.array_equal(inside.pixels, canvas.pixels)
    assert inside.alpha is not None
    assert inside.alpha.min() == 255


def test_padding_tells_of_bands_and_nothing_around_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("domains.chain.backends.steps.pad._ROWS", 8)
    told, between = counted()
    canvas = noise(5, 10)

    pad(canvas, PadStep(top=7), between)

    assert told == [(1, 3), (2, 3), (3, 3)]
    assert pad(canvas, PadStep(), ignored) is canvas
