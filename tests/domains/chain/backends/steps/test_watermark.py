"""Visible marks: where they stand, how they are blended, what is written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.watermark import watermark
from domains.chain.core.font import CHARACTERS
from domains.chain.types import Anchor, WatermarkStep
from domains.picture.types import PreparedPicture
from tests.domains.chain.pictures import ignored, noise, same


def prepared(canvas: Canvas, folder: Path) -> PreparedPicture:
    """A picture as it lies in a file for work."""
    data = canvas.whole().tobytes()
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / sha256
    path.write_bytes(data)
    return PreparedPicture(path, *canvas.size, sha256, alpha=canvas.alpha is not None)


def black(width: int, height: int) -> Canvas:
    return Canvas(np.zeros((height, width, 3), np.uint8))


def box_of(found: Canvas) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not black."""
    box = Image.fromarray(found.pixels).getbbox()
    assert box is not None
    return box


PLACES = {
    Anchor.TOP_LEFT: (3, 3, 13, 8),
    Anchor.TOP_RIGHT: (37, 3, 47, 8),
    Anchor.BOTTOM_LEFT: (3, 12, 13, 17),
    Anchor.BOTTOM_RIGHT: (37, 12, 47, 17),
    Anchor.CENTER: (20, 7, 30, 12),
}


@pytest.mark.parametrize("anchor", PLACES)
def test_a_mark_stands_at_its_anchor(anchor: Anchor, tmp_path: Path) -> None:
    mark = Canvas(np.full((2, 4, 3), 200, np.uint8))
    step = WatermarkStep(
        anchor=anchor,
        opacity=1.0,
        scale=0.25,
        margin_pixels=3,
        picture=prepared(mark, tmp_path),
    )

    found = watermark(black(50, 20), step, ignored)

    assert box_of(found) == PLACES[anchor]
    left, top, right, bottom = PLACES[anchor]
    assert (found.pixels[top:bottom, left:right] == 200).all()


def test_a_mark_of_its_own_size_is_blended_whole_written_down(tmp_path: Path) -> None:
    """Against the formula in double precision, and Pillow's where its own is the same."""
    mark = noise(12, 10, alpha=True, seed=4)
    assert mark.alpha is not None
    for below in (noise(12, 10, seed=5), noise(12, 10, alpha=True, seed=5)):
        step = WatermarkStep(
            anchor=Anchor.TOP_LEFT,
            opacity=0.7,
            scale=1.0,
            margin_pixels=0,
            picture=prepared(mark, tmp_path),
        )

        found = watermark(below, step, ignored)

        cover = mark.alpha[..., None] / 255 * 0.7
        behind = np.ones((10, 12)) if below.alpha is None else below.alpha / 255
        behind = behind[..., None] * (1 - cover)
        whole = cover + behind
        levels = (mark.pixels * cover + below.pixels * behind) / whole
        assert np.abs(found.pixels - np.rint(levels)).max() <= 1
        if below.alpha is not None:
            assert found.alpha is not None
            assert np.abs(found.alpha - np.rint(255 * whole[..., 0])).max() <= 1
    full = WatermarkStep(
        opacity=1.0, scale=1.0, margin_pixels=0, picture=prepared(mark, tmp_path)
    )
    pasted = Image.alpha_composite(below.image(), mark.image())
    composed = watermark(below, full, ignored)
    assert np.abs(composed.whole().astype(int) - np.asarray(pasted).astype(int)).max() <= 1


def test_tiles_cover_the_whole_picture(tmp_path: Path) -> None:
    mark = noise(3, 2, seed=6)
    step = WatermarkStep(
        anchor=Anchor.TILED,
        opacity=1.0,
        scale=2 / 13,
        margin_pixels=1,
        picture=prepared(mark, tmp_path),
    )

    found = watermark(black(18, 13), step, ignored)

    for top in range(1, 13, 3):
        for left in range(1, 18, 4):
            part = found.pixels[top : top + 2, left : left + 3]
            assert np.array_equal(part, mark.pixels[: part.shape[0], : part.shape[1]])
    assert not found.pixels[[0, 3]].any()
    assert not found.pixels[:, [0, 4]].any()


def test_nothing_is_put_on_by_no_opacity(tmp_path: Path) -> None:
    for canvas in (noise(9, 9), noise(9, 9, alpha=True)):
        step = WatermarkStep("mark", opacity=0.0)
        assert same(watermark(canvas, step, ignored), canvas)


def test_a_transparent_mark_changes_nothing(tmp_path: Path) -> None:
    clear = Canvas(noise(5, 5).pixels, np.zeros((5, 5), np.uint8))
    step = WatermarkStep(opacity=1.0, scale=1.0, picture=prepared(clear, tmp_path))
    for canvas in (noise(40, 40), noise(40, 40, alpha=True)):
        assert same(watermark(canvas, step, ignored), canvas)


def test_a_text_is_white_with_a_black_outline_in_the_height_that_is_asked_for() -> None:
    grey = Canvas(np.full((200, 400, 3), 128, np.uint8))
    step = WatermarkStep("Robot 7", anchor=Anchor.CENTER, opacity=1.0, scale=0.25)

    found = watermark(grey, step, ignored)

    changed = np.argwhere((found.pixels != 128).any(2))
    height = changed[:, 0].max() - changed[:, 0].min() + 1
    assert 25 <= height <= 50  # of a line's 50 rows letters have fewer
    assert (found.pixels == 255).all(2).any()
    assert (found.pixels == 0).all(2).any()
    assert same(watermark(grey, step, ignored), found)
    half = watermark(grey, WatermarkStep("Robot 7", Anchor.CENTER, 0.5, 0.25), ignored)
    assert (half.pixels.min(), half.pixels.max()) == (64, round(128 + 127 * 0.5))


def test_a_text_reads_as_what_it_is() -> None:
    """Different texts differ, and every character that is accepted has a picture of its own."""
    canvas = Canvas(np.full((60, 600, 3), 128, np.uint8))

    def written(text: str) -> bytes:
        return watermark(canvas, WatermarkStep(text, scale=0.5), ignored).pixels.tobytes()

    assert written("one") != written("two")
    missing = written("\uffff")
    shown = CHARACTERS - {" "}
    assert len({written(each) for each in shown}) >= len(shown) - 2  # quotes look alike
    assert missing not in {written(each) for each in shown}


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.floats(0.01, 1),
    opacity=st.floats(0, 1),
    margin=st.integers(0, 1_024),
    anchor=st.sampled_from(Anchor),
    text=st.text(st.sampled_from(sorted(CHARACTERS)), min_size=1, max_size=200),
    alpha=st.booleans(),
)
def test_any_mark_goes_on_any_picture(
    size: tuple[int, int],
    scale: float,
    opacity: float,
    margin: int,
    anchor: Anchor,
    text: str,
    alpha: bool,
) -> None:
    canvas = noise(*size, alpha=alpha)
    before = canvas.whole().copy()
    step = WatermarkStep(text, anchor, opacity, scale, margin)

    found = watermark(canvas, step, ignored)

    assert found.size == size
    assert (found.alpha is None) is not alpha
    assert np.array_equal(canvas.whole(), before)
    if found.alpha is not None and canvas.alpha is not None:
        assert (found.alpha >= canvas.alpha).all()


def test_a_mark_of_an_extreme_shape_is_made_to_fit(tmp_path: Path) -> None:
    for shape in ((3_000, 1), (1, 3_000)):
        step = WatermarkStep(
            opacity=1.0, scale=1.0, margin_pixels=2, picture=prepared(noise(*shape), tmp_path)
        )
        left, top, right, bottom = box_of(watermark(black(30, 20), step, ignored))
        assert min(left, top) >= 2
        assert (right <= 28, bottom <= 18) == (True, True)
