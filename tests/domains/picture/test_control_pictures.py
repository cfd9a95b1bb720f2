"""Control pictures are what slow readings of their formulas make, whatever the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from domains.picture.backends.carried.faces import find_faces
from domains.picture.backends.control.canny import canny
from domains.picture.backends.control.components import joined
from domains.picture.backends.control.gaussian import blurred
from domains.picture.backends.control.lines import _widened, line_art, scribble, soft_edges
from domains.picture.backends.control.preprocessing import control_picture
from domains.picture.types import (
    CannyOptions,
    ControlPreprocessor,
    FaceMaskOptions,
    GreyOptions,
    LineArtOptions,
    ScribbleOptions,
    SoftEdgeOptions,
    TileOptions,
)
from tests.domains.chain.photograph import astronaut
from tests.domains.picture import slow_control
from tests.domains.picture.drawn import painting

ALL = (
    CannyOptions(),
    SoftEdgeOptions(),
    LineArtOptions(),
    ScribbleOptions(),
    GreyOptions(),
    TileOptions(),
    FaceMaskOptions(),
)
SIZES = ((29, 18), (1, 1), (1, 17), (17, 1), (2, 2))


def noisy(width: int, height: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth where it is large, with plateaus, and noise on some of it."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (max(height // 5, 1), max(width // 5, 1), 3), dtype=np.uint8)
    grown = np.asarray(Image.fromarray(coarse).resize((width, height), seed % 3)).copy()
    grown[: height // 2] = np.clip(
        grown[: height // 2] + draw.normal(0, 9, (height // 2, width, 3)), 0, 255
    )
    return grown


def places(mask: np.ndarray[Any, Any]) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_canny_is_opencvs(size: tuple[int, int], seed: int) -> None:
    pixels = noisy(*size, seed)
    for low, high in ((100, 200), (20, 60), (0, 0), (50, 50), (0, 255)):
        assert places(canny(pixels, low, high)) == slow_control.canny(pixels, low, high)


def test_a_diagonal_has_thin_edges() -> None:
    pixels = np.asarray(Image.new("RGB", (40, 40)).rotate(0)).copy()
    rows, columns = np.mgrid[0:40, 0:40]
    pixels[rows > columns] = 255
    found = places(canny(pixels, 100, 200))
    assert found
    assert found == slow_control.canny(pixels, 100, 200)


def test_weak_edges_live_by_strong_ones_however_long_the_way() -> None:
    spiral = np.zeros((64, 64), bool)
    row = column = 0
    down, right = 0, 1
    for length in (63, 63, 63, *(n for k in range(61, 1, -2) for n in (k, k))):
        for _ in range(length):
            spiral[row, column] = True
            row, column = row + down, column + right
        down, right = right, -down
    seeds = np.zeros_like(spiral)
    seeds[0, 0] = True
    assert joined(seeds, spiral).sum() == len(slow_control.joined({(0, 0)}, places(spiral)))
    draw = np.random.default_rng(1)
    for share in (0.02, 0.3, 0.45, 0.9):
        allowed = draw.random((40, 50)) < share
        seeds = allowed & (draw.random((40, 50)) < 0.02)
        wanted = slow_control.joined(places(seeds), places(allowed))
        assert places(joined(seeds, allowed)) == wanted


@pytest.mark.parametrize("deviation", [0.1, 1.0, 2.5])
@pytest.mark.parametrize("size", [(12, 7), (1, 1), (2, 131)])
def test_the_blur_is_the_whole_sum(deviation: float, size: tuple[int, int]) -> None:
    plane = noisy(*size)[:, :, 0].astype(np.float32)
    wanted = slow_control.blurred(plane, deviation)
    np.testing.assert_allclose(blurred(plane, deviation), wanted, atol=1e-3)


@pytest.mark.parametrize("radius", [0.1, 1.0, 2.0])
def test_soft_edges_follow_their_formula(radius: float) -> None:
    pixels = noisy(13, 9)
    wanted = slow_control.soft_edges(pixels, radius)
    np.testing.assert_allclose(soft_edges(pixels, radius), wanted, atol=0.6)


@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0, 16.0])
def test_the_strongest_edge_is_white_at_any_radius(radius: float) -> None:
    pixels = np.zeros((20, 160, 3), np.uint8)
    pixels[:, 80:] = 255
    found = soft_edges(pixels, radius)
    assert found[:, 79:81].min() == 255
    assert found[:, 0].max() == 0


@pytest.mark.parametrize("threshold", [16, 255])
def test_line_art_follows_its_formula(threshold: int) -> None:
    pixels = noisy(11, 8)
    pixels[5] = 0
    wanted = slow_control.line_art(pixels, threshold)
    np.testing.assert_allclose(line_art(pixels, threshold), wanted, atol=0.6)


@pytest.mark.parametrize("stroke", [1, 2, 3, 6, 7, 32])
def test_strokes_are_round_and_as_wide_as_asked(stroke: int) -> None:
    edges = np.zeros((23, 30), bool)
    edges[[0, 11, 22], [0, 14, 29]] = True
    found = places(_widened(edges, stroke))
    assert found == slow_control.widened(places(edges), stroke, edges.shape)


def test_a_scribble_is_coarse() -> None:
    pixels = np.full((80, 80, 3), 30, np.uint8)
    pixels[20:60, 20:60] = 220
    pixels[::7, ::7] = 60
    found = scribble(pixels, 4)
    assert set(np.unique(found)) == {0, 255}
    assert found[18:22, 36:44].all()
    assert not found[:12].any()
    assert not found[30:50, 30:50].any()


@pytest.mark.parametrize("options", ALL, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resolution", [0, 1, 24, 64])
def test_size_and_mode_stay(options: Any, size: tuple[int, int], resolution: int) -> None:
    image = Image.fromarray(noisy(*size))
    made = control_picture(image, ControlPreprocessor(options, resolution))
    assert (made.mode, made.size) == ("RGB", size)


@pytest.mark.parametrize("options", ALL[:4], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("colour", ["black", "white", "#808182"])
def test_nothing_is_seen_in_one_colour(options: Any, colour: str) -> None:
    made = control_picture(Image.new("RGB", (40, 30), colour), ControlPreprocessor(options))
    assert made.getcolors() == [(1200, (0, 0, 0))]


def test_grey_is_luma_and_a_tile_of_factor_one_the_picture() -> None:
    image = painting()
    grey = control_picture(image, ControlPreprocessor(GreyOptions()))
    assert grey.tobytes() == image.convert("L").convert("RGB").tobytes()
    same = control_picture(image, ControlPreprocessor(TileOptions(1)))
    assert same.tobytes() == image.tobytes()
    blurred_image = control_picture(image, ControlPreprocessor(TileOptions(16)))
    assert blurred_image.tobytes() != image.tobytes()
    means = [np.asarray(each).mean() for each in (image, blurred_image)]
    assert abs(means[0] - means[1]) < 4


def test_a_coarser_look_finds_fewer_edges() -> None:
    image = Image.fromarray(noisy(128, 96))
    fine, coarse = (
        np.asarray(control_picture(image, ControlPreprocessor(CannyOptions(), size)))
        for size in (0, 32)
    )
    assert fine.any()
    assert (coarse > 0).mean() != (fine > 0).mean()
    assert ControlPreprocessor(CannyOptions(), 32).working_size(128, 96) == (32, 24)
    assert ControlPreprocessor(CannyOptions(), 1).working_size(128, 4) == (1, 1)


def masked(padding: float = 0.3, blur: int = 0, least: float = 0.5) -> np.ndarray[Any, Any]:
    """The mask of the photograph's face, `[288, 288]`."""
    made = control_picture(
        Image.fromarray(astronaut()), ControlPreprocessor(FaceMaskOptions(padding, blur, least))
    )
    levels = np.asarray(made)
    assert levels.shape == (288, 288, 3)
    assert (levels == levels[..., :1]).all()
    return levels[..., 0]


def test_a_face_mask_is_an_oval_around_the_face() -> None:
    (face,) = find_faces(astronaut(), 0.5)
    left, top, right, bottom = face.box
    mask = masked(padding=0)

    assert mask[round((top + bottom) / 2), round((left + right) / 2)] == 255
    rows, columns = np.nonzero(mask)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found == pytest.approx(face.box, abs=1)
    oval = np.pi / 4 * (right - left) * (bottom - top)
    assert mask.sum() / 255 == pytest.approx(oval, rel=0.01)
    # Half a face more on each side is an oval of twice the edges.
    assert masked(padding=0.25).sum() / 255 == pytest.approx(2.25 * oval, rel=0.01)


def test_a_face_mask_can_be_blurred_and_can_be_empty() -> None:
    sharp, soft = masked(), masked(blur=6)

    assert 0.2 < (np.abs(np.diff(soft.astype(int))).max() / 255) / (1 / 6) < 0.6
    assert np.abs(np.diff(sharp.astype(int))).max() > 100
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.01)
    assert masked(least=0.999).max() == 0


def test_a_face_mask_may_reach_beyond_the_picture() -> None:
    mask = masked(padding=1.0)
    assert mask[0, 0] == 0
    assert mask[0, 140:150].min() == 255
