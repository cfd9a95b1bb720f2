"""Sizes and fits: what a picture is brought to, and how."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domains.picture.backends.fitting import fitted
from domains.picture.types import MOST_BYTES, MOST_EDGE, MOST_PIXELS, Canvas, ResizeFit
from tests.domains.picture.drawn import painting


@pytest.mark.parametrize("fit", ResizeFit)
def test_a_picture_of_the_size_stays_whole(fit: ResizeFit):
    same = fitted(painting(), (48, 32), fit)
    assert np.array_equal(np.asarray(same), np.asarray(painting()))


@pytest.mark.parametrize("fit", ResizeFit)
@pytest.mark.parametrize(
    ("source", "size"),
    [((48, 32), (64, 64)), ((1, 999), (64, 72)), ((999, 1), (8, 8)), ((7, 5), (256, 264))],
)
def test_the_size_is_what_is_asked_for(
    fit: ResizeFit, source: tuple[int, int], size: tuple[int, int]
):
    assert fitted(painting(*source), size, fit).size == size


def test_stretch_is_lanczos():
    wanted = painting().resize((64, 80), Image.Resampling.LANCZOS)
    assert fitted(painting(), (64, 80), ResizeFit.STRETCH).tobytes() == wanted.tobytes()


def halves() -> Image.Image:
    """Thirds of red, green and blue from left to right."""
    image = Image.new("RGB", (90, 30), "lime")
    image.paste("red", (0, 0, 30, 30))
    image.paste("blue", (60, 0, 90, 30))
    return image


def test_cover_keeps_the_middle():
    assert fitted(halves(), (60, 60), ResizeFit.COVER).getcolors() == [(3600, (0, 255, 0))]


def test_contain_keeps_all_and_repeats_the_edges():
    found = np.asarray(fitted(halves(), (90, 90), ResizeFit.CONTAIN))
    whole = np.asarray(halves())
    assert np.array_equal(found[30:60], whole)
    assert (found[:30] == whole[0]).all()
    assert (found[60:] == whole[-1]).all()
    upright = fitted(halves().transpose(Image.Transpose.ROTATE_90), (90, 90), ResizeFit.CONTAIN)
    turned = upright.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(turned), found)


@pytest.mark.parametrize(
    ("asked", "picture", "size"),
    [
        ((256, 320), (999, 1), (256, 320)),
        ((None, None), (1024, 1024), (1024, 1024)),
        ((None, None), (64, 64), (1024, 1024)),
        ((None, None), (4000, 3000), (1184, 888)),
        ((None, None), (3000, 4000), (888, 1184)),
        ((None, None), (100, 1), (2048, 256)),
        ((512, None), (400, 300), (512, 384)),
        ((None, 512), (300, 400), (384, 512)),
        ((2048, None), (1, 9), (2048, 2048)),
        ((256, None), (9, 1), (256, 256)),
    ],
)
def test_the_size_follows_the_pictures_shape(
    asked: tuple[int | None, int | None], picture: tuple[int, int], size: tuple[int, int]
):
    assert Canvas(*asked, 1024, 1024).size_for(*picture) == size


def test_a_small_model_keeps_the_shape_before_the_number_of_pixels():
    assert Canvas(None, None, 256, 256).size_for(400, 300) == (344, 256)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((100, 50), (512, 256)),
        ((2500, 1250), (2048, 1024)),
        ((300, 301), (304, 304)),
        ((8192, 64), (2048, 256)),
    ],
)
def test_without_a_native_size_it_is_the_pictures_own(
    picture: tuple[int, int], size: tuple[int, int]
):
    assert Canvas(None, None).size_for(*picture) == size
    assert Canvas(512, None).size_for(300, 300) == (512, 512)


def test_the_contract_says_what_is_taken():
    protos = Path(__file__).parents[3] / "protos" / "deviceops" / "v1" / "common.proto"
    text = re.sub(r"\s*//\s*", " ", protos.read_text("utf-8"))
    assert f"of {MOST_BYTES} bytes, {MOST_PIXELS} pixels and {MOST_EDGE} pixels" in text
