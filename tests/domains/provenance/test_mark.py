"""The invisible mark is found again after what pictures go through, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from domains.errors import Reason
from domains.provenance.backends.mark import add_mark, confidence, marked
from domains.provenance.errors import InvalidProvenance
from domains.provenance.types import FOUND
from tests.domains.provenance.drawn import (
    Pixels,
    as_jpeg,
    cropped,
    decibels,
    photograph,
    pictures,
    saved_as,
)

KEY, OTHER = bytes(range(16)), bytes(16)
CASES = [
    pytest.param(pixels, id=f"{name}-{size}")
    for size in (128, 256)
    for name, pixels in pictures(size)
]


@pytest.mark.parametrize("pixels", CASES)
def test_a_mark_is_not_seen_and_survives(pixels: Pixels) -> None:
    before = pixels.copy()

    done = add_mark(pixels, KEY)

    assert np.array_equal(pixels, before)
    assert done.shape == pixels.shape
    assert done.dtype == np.uint8
    assert decibels(pixels, done) >= 38
    assert confidence(done, KEY) >= FOUND
    assert confidence(as_jpeg(done), KEY) >= FOUND
    assert confidence(saved_as(done, "AVIF", quality=80, speed=10), KEY) >= FOUND
    if len(pixels) > 128:  # of the smallest, what is left is less than a tile
        assert confidence(as_jpeg(cropped(done)), KEY) >= FOUND


@pytest.mark.parametrize("pixels", CASES)
def test_nothing_is_found_without_the_mark_or_its_key(pixels: Pixels) -> None:
    assert confidence(pixels, KEY) < FOUND
    assert confidence(add_mark(pixels, OTHER), KEY) < FOUND


def test_chance_is_told_as_it_is() -> None:
    """One less the confidence is how often unmarked pictures look so: half of them over 0.5."""
    sure = np.array([confidence(photograph(128, seed), KEY) for seed in range(100, 200)])

    assert 0.3 < np.mean(sure > 0.5) < 0.7
    assert np.mean(sure > 0.9) < 0.25
    assert sure.max() < FOUND


def test_a_mark_is_where_the_picture_is_cut_anywhere() -> None:
    done = add_mark(photograph(512, 3), KEY)

    for top, left in ((1, 2), (77, 130), (200, 255)):
        assert confidence(done[top : top + 256, left : left + 250], KEY) >= FOUND


def test_pictures_of_any_shape_are_looked_at() -> None:
    for height, width in ((1, 1), (1, 700), (3, 2), (700, 1)):
        pixels = np.full((height, width, 3), 7, np.uint8)
        assert confidence(pixels, KEY) < FOUND


def test_the_pattern_of_a_key_stays_what_it_was() -> None:
    """Pictures that were marked by an earlier version are known by a later one."""
    done = add_mark(np.full((128, 128, 3), 128, np.uint8), KEY).astype(int)[..., 0] - 128

    assert done[:2, :8].tolist() == PATTERN


PATTERN = [[1, 1, 0, -1, -2, -3, -2, 0], [1, 2, 2, 2, 0, -2, -2, 0]]


def test_noise_in_which_a_mark_drowns_is_refused() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)

    with pytest.raises(InvalidProvenance) as caught:
        marked(noise, KEY.hex(), "output.provenance.watermark")

    assert caught.value.reason is Reason.DIMENSIONS_INVALID
    assert caught.value.violations[0].field == "output.provenance.watermark"
    assert np.array_equal(
        marked(photograph(256, 1), KEY.hex(), ""), add_mark(photograph(256, 1), KEY)
    )
