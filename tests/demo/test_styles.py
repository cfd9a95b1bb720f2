"""The drawing styles that the family is taught."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from demo.train.parts import styles
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import load_emoji


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return Compositor(load_emoji(limit=24), device="cpu", seed=3).draw(6).pixels


def colours(picture: Tensor) -> int:
    """How many colours a picture has, at 32 levels per channel."""
    levels = ((picture + 1) * 15.5).round().flatten(1).T
    return len(levels.unique(dim=0))


@pytest.mark.parametrize("paint", [styles.line_art, styles.pixel_art, styles.comic])
def test_a_style_keeps_shape_and_range(paint, pictures):
    painted = paint(pictures)
    assert painted.shape == pictures.shape
    assert painted.dtype == torch.float32
    assert painted.min() >= -1 - 1e-5
    assert painted.max() <= 1 + 1e-5


def test_line_art_is_dark_lines_on_white_without_colour(pictures):
    drawn = styles.line_art(pictures)
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert torch.equal(drawn[:, 0], drawn[:, 2])
    white = (drawn[:, 0] > 0.99).flatten(1).float().mean(1)
    black = (drawn[:, 0] < -0.9).flatten(1).float().mean(1)
    assert (white > 0.6).all()
    assert (black > 0.005).all()
    assert (black < 0.35).all()


def test_line_art_draws_where_colours_meet():
    halves = torch.full((1, 3, 64, 64), -0.5)
    halves[:, 0, :, 32:] = 0.5  # only one channel changes
    drawn = styles.line_art(halves)[0, 0]
    assert (drawn[:, 31:33] < -0.9).all()
    assert (drawn[:, :24] > 0.99).all()
    assert (drawn[:, 40:] > 0.99).all()


def test_a_plain_picture_has_no_outlines():
    assert styles.outlines(torch.full((1, 3, 32, 32), 0.3), sigma=1.0, black=0.1).max() == 0


def test_pixel_art_is_cells_of_the_mean_colour(pictures):
    drawn = styles.pixel_art(pictures)
    cells = drawn.unfold(2, styles.CELL, styles.CELL).unfold(3, styles.CELL, styles.CELL)
    assert torch.equal(cells.amax((-1, -2)), cells.amin((-1, -2)))
    means = torch.nn.functional.avg_pool2d(pictures, styles.CELL)
    step = 2 / (styles.PIXEL_ART_LEVELS - 1)
    assert (cells[..., 0, 0] - means).abs().max() <= step / 2 + 1e-5


def test_comic_has_fewer_colours_and_more_ink_than_its_picture(pictures):
    drawn = styles.comic(pictures)
    assert sum(map(colours, drawn)) < 0.8 * sum(map(colours, pictures))
    black = (drawn.amax(1) < -0.8).float().mean()
    assert black > (pictures.amax(1) < -0.8).float().mean() + 0.01


def test_comic_keeps_a_plain_background(pictures):
    drawn = styles.comic(pictures)
    assert torch.allclose(drawn[..., 0, 0], pictures[..., 0, 0], atol=1e-5)
