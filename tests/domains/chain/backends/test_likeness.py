"""Likeness of pictures, against scikit-image's figures and the definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from domains.chain.backends import likeness
from domains.chain.backends.canvas import Pixels
from domains.chain.backends.likeness import psnr_db, quality_of, ssim
from domains.errors import Cancelled
from tests.domains.chain.photograph import astronaut
from tests.domains.chain.pictures import noise

# scikit-image 0.26.0 of the pairs below: structural_similarity with gaussian_weights=True,
# sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2, and
# peak_signal_noise_ratio with data_range=255.
BY_SCIKIT_IMAGE = {
    "enlarged": (0.8431341599011203, 25.963935904829768),
    "noisy": (0.3594435508212522, 23.23174411860627),
    "inverted": (0.7446447281561417, 9.311883544358),
}


def pair(name: str) -> tuple[Pixels, Pixels]:
    """A part of a photograph, and what has been done to it."""
    whole = astronaut()
    if name == "enlarged":
        small = Image.fromarray(whole).resize((96, 96), Image.Resampling.BOX)
        return whole, np.asarray(small.resize((288, 288), Image.Resampling.NEAREST))
    if name == "noisy":
        part = whole[:100, :151]
        noise = np.random.default_rng(7).integers(-30, 31, part.shape)
        return part, np.clip(part + noise, 0, 255).astype(np.uint8)
    return whole[:11, :11], 255 - whole[:11, :11]


@pytest.mark.parametrize("name", BY_SCIKIT_IMAGE)
def test_both_figures_are_those_of_scikit_image(name: str) -> None:
    one, other = pair(name)
    similarity, decibels = BY_SCIKIT_IMAGE[name]

    found = quality_of(one, other)

    assert found.ssim == pytest.approx(similarity, abs=1e-9)
    assert found.psnr_db == pytest.approx(decibels, abs=1e-9)
    assert quality_of(other, one).psnr_db == found.psnr_db


def by_definition(one: Pixels, other: Pixels) -> float:
    """Window after window, as equation 13 of the paper says."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()

    def windows(channel: int) -> Iterator[float]:
        for top in range(one.shape[0] - 10):
            for left in range(one.shape[1] - 10):
                here = (slice(top, top + 11), slice(left, left + 11), channel)
                x, y = one[here].astype(float), other[here].astype(float)
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                both = (weights * (x - mx) * (y - my)).sum()
                c1, c2 = 2.55**2, 7.65**2
                yield (
                    (2 * mx * my + c1)
                    * (2 * both + c2)
                    / ((mx**2 + my**2 + c1) * (vx + vy + c2))
                )

    return float(np.mean([list(windows(channel)) for channel in range(3)]))


def test_similarity_is_the_mean_over_every_place_of_the_window() -> None:
    one, other = noise(17, 14).pixels, noise(17, 14, seed=1).pixels
    mixed = ((one.astype(int) + other) // 2).astype(np.uint8)

    assert ssim(one, mixed) == pytest.approx(by_definition(one, mixed), abs=1e-9)
    assert by_definition(one, mixed) < 0.95


def test_equal_pictures_have_the_most_of_both() -> None:
    one = astronaut()

    found = quality_of(one, one.copy())

    assert (found.psnr_db, found.ssim) == (100, 1)


@pytest.mark.parametrize(("width", "height"), [(10, 40), (40, 10), (1, 1)])
def test_what_is_smaller_than_the_window_has_no_similarity(width: int, height: int) -> None:
    one, other = noise(width, height).pixels, noise(width, height, seed=1).pixels

    found = quality_of(one, other)

    assert found.ssim is None
    assert 0 < found.psnr_db < 20


def test_the_ratio_is_of_the_greatest_signal_to_the_noise() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr_db(black, black + np.uint8(255)) == 0
    assert psnr_db(black, black + np.uint8(1)) == pytest.approx(48.13, abs=0.01)
    # Not in bytes, which have no negative numbers.
    assert psnr_db(black, black + np.uint8(1)) == psnr_db(black + np.uint8(1), black)


def test_bands_are_what_the_whole_is_and_it_stops_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = pair("noisy")
    whole = quality_of(one, other)
    monkeypatch.setattr(likeness, "_PIXELS_AT_ONCE", 7 * 151)
    looks: list[None] = []

    parts = quality_of(one, other, lambda: looks.append(None))

    assert parts.psnr_db == whole.psnr_db
    assert parts.ssim == pytest.approx(whole.ssim, abs=1e-12)
    assert len(looks) == -(-100 // 7) + -(-90 // 7)

    def stop() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        psnr_db(one, other, stop)
    with pytest.raises(Cancelled):
        ssim(one, other, stop)
