"""The classical steps against references that share no code with them."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage  # type: ignore[import-untyped]

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.steps.background import remove_background
from domains.chain.backends.steps.color import color
from domains.chain.backends.steps.crop import crop
from domains.chain.backends.steps.denoise import denoise
from domains.chain.backends.steps.non_local_means import PATCH, WINDOW, non_local_means
from domains.chain.backends.steps.resize import resize
from domains.chain.backends.steps.sharpen import sharpen
from domains.chain.types import (
    ColorStep,
    CropStep,
    DenoiseMethod,
    DenoiseStep,
    RemoveBackgroundStep,
    ResizeFilter,
    ResizeStep,
    SharpenStep,
)
from domains.picture.types import ResizeFit
from tests.domains.chain.photograph import astronaut
from tests.domains.chain.pictures import counted, ignored, noise, same

Floats = npt.NDArray[np.float64]
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def levels_apart(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """The greatest difference of two pictures' levels."""
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())


# Sharpening, against scipy's Gaussian in double precision.


@pytest.mark.parametrize(
    ("amount", "radius", "threshold"),
    [(1.0, 1.0, 0), (0.5, 0.1, 0), (5.0, 2.5, 0), (1.5, 3.0, 40), (2.0, 50.0, 10)],
)
def test_sharpening_adds_what_a_gaussian_takes(
    amount: float, radius: float, threshold: int
) -> None:
    canvas = noise(41, 29, alpha=True)
    levels = canvas.pixels.astype(np.float64)
    reach = max(1, int(np.ceil(4 * radius)))
    blurred = np.dstack(
        [
            ndimage.gaussian_filter(levels[..., k], radius, mode="nearest", radius=reach)
            for k in range(3)
        ]
    )
    detail = levels - blurred
    wanted = np.where(np.abs(detail) >= threshold, levels + amount * detail, levels)

    found = sharpen(canvas, SharpenStep(amount, radius, threshold), ignored)

    # A level where a sum in single precision rounds the other way.
    assert levels_apart(found.pixels, np.clip(np.rint(wanted), 0, 255)) <= 1
    assert found.alpha is canvas.alpha


def test_sharpening_by_bands_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas, step = noise(20, 70), SharpenStep(2.0, 3.0)
    whole = sharpen(canvas, step, ignored)
    monkeypatch.setattr("domains.chain.backends.steps.sharpen._ROWS", 16)
    told, between = counted()

    found = sharpen(canvas, step, between)

    assert levels_apart(found.pixels, whole.pixels) <= 1
    assert told == [(done, 5) for done in range(1, 6)]


def test_nothing_is_sharpened_by_nothing() -> None:
    canvas = noise(5, 4, alpha=True)
    flat = Canvas(np.full((6, 7, 3), 97, np.uint8))

    assert sharpen(canvas, SharpenStep(amount=0.0), ignored) is canvas
    assert same(sharpen(flat, SharpenStep(5.0, 2.0), ignored), flat)
    assert same(sharpen(canvas, SharpenStep(5.0, 1.0, 255), ignored), canvas)


# Denoising, against the definition written out for each pixel.


def bilateral(pixels: npt.NDArray[np.uint8], strength: float) -> Floats:
    height, width = pixels.shape[:2]
    levels = pixels.astype(np.float64)
    result = np.empty_like(levels)
    for y in range(height):
        for x in range(width):
            weights, total = 0.0, np.zeros(3)
            for down in range(-3, 4):
                for right in range(-3, 4):
                    row = min(max(y + down, 0), height - 1)
                    other = levels[row, min(max(x + right, 0), width - 1)]
                    unlike = float(((other - levels[y, x]) ** 2).mean())
                    weight = np.exp(-(down**2 + right**2) / 4.5)
                    weight *= np.exp(-unlike / (2 * (50 * strength) ** 2))
                    weights += weight
                    total += weight * other
            result[y, x] = total / weights
    return result


@pytest.mark.parametrize("strength", [0.01, 0.5, 1.0])
def test_denoising_is_the_bilateral_filter_that_is_written_down(strength: float) -> None:
    canvas = noise(9, 8, alpha=True)

    found = denoise(canvas, DenoiseStep(strength), ignored)

    assert levels_apart(found.pixels, np.rint(bilateral(canvas.pixels, strength))) <= 1
    assert found.alpha is canvas.alpha


def test_denoising_smooths_noise_and_keeps_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    clean = np.full((96, 40, 3), 60.0)
    clean[:, 20:] = 200.0
    noisy = Canvas((clean + random.normal(0, 8, clean.shape)).clip(0, 255).astype(np.uint8))
    monkeypatch.setattr("domains.chain.backends.steps.denoise._ROWS", 32)
    told, between = counted()

    found = denoise(noisy, DenoiseStep(0.5), between)

    before, after = (
        np.abs(one.pixels.astype(np.float64) - clean).mean() for one in (noisy, found)
    )
    assert after < before / 2
    edge = found.pixels[:, 20].astype(float) - found.pixels[:, 19].astype(float)
    assert edge.mean() > 130
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert denoise(noisy, DenoiseStep(0.0), ignored) is noisy


# Non-local means, likewise.


def alike(pixels: npt.NDArray[np.uint8], strength: float) -> Floats:
    reach = PATCH // 2 + WINDOW // 2
    levels = np.pad(pixels.astype(np.float64), ((reach,) * 2, (reach,) * 2, (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    patches = np.lib.stride_tricks.sliding_window_view(levels, (PATCH, PATCH), (0, 1))
    result = np.empty(pixels.shape)
    for y, x in itertools.product(range(height), range(width)):
        around = patches[y : y + WINDOW, x : x + WINDOW]
        apart = ((around - around[WINDOW // 2, WINDOW // 2]) ** 2).mean((2, 3, 4))
        weights = np.exp(-apart / (20 * strength) ** 2)
        half = PATCH // 2
        others = levels[y + half :, x + half :][:WINDOW, :WINDOW]
        result[y, x] = (weights[..., None] * others).sum((0, 1)) / weights.sum()
    return result


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_non_local_means_are_as_they_are_written_down(strength: float) -> None:
    random = np.random.default_rng(2)
    stripes = np.where(np.arange(24) % 6 < 3, 90, 160)[None, :, None]
    noisy = (stripes + random.normal(0, 6, (18, 24, 3))).clip(0, 255).astype(np.uint8)
    canvas = Canvas(noisy, noise(24, 18, alpha=True).alpha)
    step = DenoiseStep(strength, DenoiseMethod.NON_LOCAL_MEANS)

    found = non_local_means(canvas, step, ignored)

    assert levels_apart(found.pixels, np.rint(alike(noisy, strength))) <= 2
    assert found.alpha is canvas.alpha


def test_non_local_means_by_bands_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canvas, step = noise(30, 50), DenoiseStep(1.0, DenoiseMethod.NON_LOCAL_MEANS)
    whole = non_local_means(canvas, step, ignored)
    assert np.array_equal(
        whole.pixels, cv2.fastNlMeansDenoising(canvas.pixels, None, 20.0, PATCH, WINDOW)
    )
    monkeypatch.setattr("domains.chain.backends.steps.non_local_means._ROWS", 16)
    told, between = counted()

    assert same(non_local_means(canvas, step, between), whole)
    assert told == [(done, 4) for done in range(1, 5)]
    nothing = DenoiseStep(0.0, DenoiseMethod.NON_LOCAL_MEANS)
    assert non_local_means(canvas, nothing, ignored) is canvas
    assert non_local_means(noise(1, 1), step, ignored).size == (1, 1)


# Colour, against Pillow where it has the same, and against the definition.


def colored(canvas: Canvas, step: ColorStep) -> Floats:
    """The definition, on whole pictures in double precision."""
    levels = canvas.pixels.astype(np.float64)
    if step.auto_contrast:
        luma = np.sort(np.asarray(canvas.image().convert("RGB").convert("L")).ravel())
        cut = int(luma.size * 0.005)
        low, high = float(luma[cut]), float(luma[-1 - cut])
        if low < high:
            levels = ((levels - low) * 255 / (high - low)).clip(0, 255)
    levels = (levels * step.brightness).clip(0, 255)
    luma_of = np.array([0.299, 0.587, 0.114])
    mean = (levels @ luma_of).mean()
    levels = (mean + (levels - mean) * step.contrast).clip(0, 255)
    grey = (levels @ luma_of)[..., None]
    levels = (grey + (levels - grey) * step.saturation).clip(0, 255)
    return np.rint(255 * (levels / 255) ** (1 / step.gamma))


@settings(max_examples=60, deadline=None)
@given(
    size=SIZES,
    seed=st.integers(0, 99),
    step=st.builds(
        ColorStep,
        brightness=st.floats(0, 4),
        contrast=st.floats(0, 4),
        saturation=st.floats(0, 4),
        gamma=st.floats(0.1, 10),
        auto_contrast=st.booleans(),
    ),
)
def test_colours_are_as_they_are_written_down(
    size: tuple[int, int], seed: int, step: ColorStep
) -> None:
    canvas = noise(*size, alpha=True, seed=seed)

    found = color(canvas, step, ignored)

    wanted = colored(canvas, step)
    # A hair before the gamma is levels after a steep one, near black.
    bound = 1.0 if step.gamma <= 2 else 255.0
    assert levels_apart(found.pixels, wanted) <= bound
    assert found.alpha is canvas.alpha


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.7, 4.0])
def test_brightness_contrast_and_saturation_are_pillows(factor: float) -> None:
    canvas = noise(30, 20)
    image = canvas.image()
    pairs = (
        (ColorStep(brightness=factor), ImageEnhance.Brightness),
        (ColorStep(contrast=factor), ImageEnhance.Contrast),
        (ColorStep(saturation=factor), ImageEnhance.Color),
    )
    for step, enhancer in pairs:
        found = color(canvas, step, ignored)
        # Pillow rounds its mean and luma to levels, and cuts results off.
        bound = 1.0 + max(1.0, abs(1 - factor))
        assert levels_apart(found.pixels, np.asarray(enhancer(image).enhance(factor))) <= bound


def test_automatic_contrast_is_pillows_with_hues_kept() -> None:
    random = np.random.default_rng(3)
    canvas = Canvas(random.integers(70, 170, (40, 50, 3), dtype=np.uint8))
    wanted = ImageOps.autocontrast(canvas.image(), cutoff=0.5, preserve_tone=True)

    found = color(canvas, ColorStep(auto_contrast=True), ignored)

    assert levels_apart(found.pixels, np.asarray(wanted)) <= 1
    flat = Canvas(np.full((4, 4, 3), 90, np.uint8))
    assert same(color(flat, ColorStep(auto_contrast=True), ignored), flat)


def test_ones_change_no_colour() -> None:
    canvas = noise(7, 5, alpha=True)

    assert color(canvas, ColorStep(), ignored) is canvas


# Sizes.


@pytest.mark.parametrize("filter", ResizeFilter)
@pytest.mark.parametrize("size", [(7, 31), (40, 3), (1, 1), (64, 64)])
def test_resizing_is_pillows(filter: ResizeFilter, size: tuple[int, int]) -> None:
    resample = Image.Resampling[filter.name]
    for alpha in (False, True):
        canvas = noise(23, 17, alpha=alpha)

        found = resize(canvas, ResizeStep(*size, filter), ignored)

        assert np.array_equal(found.whole(), np.asarray(canvas.image().resize(size, resample)))


def test_resizing_weighs_pixels_as_lanczos_does() -> None:
    """The kernel itself, written out: three lobes, wider where the picture becomes smaller."""
    row = np.random.default_rng(5).integers(60, 190, 30).astype(np.uint8)
    canvas = Canvas(np.repeat(row[None, :, None], 3, 2))
    for wanted in (12, 75):
        scale = len(row) / wanted
        wide = max(scale, 1.0)
        centres = (np.arange(wanted) + 0.5) * scale
        places = (np.arange(len(row)) + 0.5 - centres[:, None]) / wide
        weights = np.where(np.abs(places) < 3, np.sinc(places) * np.sinc(places / 3), 0)
        levels = (weights / weights.sum(1, keepdims=True)) @ row

        found = resize(canvas, ResizeStep(wanted, 1), ignored)

        assert levels_apart(found.pixels[0, :, 0], np.rint(levels)) <= 1


def test_what_cannot_be_seen_does_not_bleed_into_what_can() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = (255, 0, 0)
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, :4] = 0

    found = resize(Canvas(pixels, alpha), ResizeStep(4, 4), ignored)

    assert found.alpha is not None
    assert found.pixels[found.alpha > 10].max() == 0


@settings(max_examples=80, deadline=None)
@given(
    size=SIZES,
    wanted=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(ResizeFit),
    filter=st.sampled_from(ResizeFilter),
    alpha=st.booleans(),
)
def test_a_resized_picture_has_the_size_that_was_told(
    size: tuple[int, int],
    wanted: tuple[int, int],
    fit: ResizeFit,
    filter: ResizeFilter,
    alpha: bool,
) -> None:
    canvas, step = noise(*size, alpha=alpha), ResizeStep(*wanted, filter, fit)

    found = resize(canvas, step, ignored)

    assert found.size == step.size_after(size)
    assert (found.alpha is None) is not alpha
    if fit is ResizeFit.CONTAIN:
        assert found.size[0] <= wanted[0]
        assert found.size[1] <= wanted[1]
        assert found.size[0] == wanted[0] or found.size[1] == wanted[1]
    else:
        assert found.size == wanted


@pytest.mark.parametrize(
    ("size", "wanted"), [((16_384, 1), (1, 64)), ((1, 16_384), (64, 1)), ((1, 1), (300, 1))]
)
@pytest.mark.parametrize("fit", ResizeFit)
def test_odd_shapes_are_resized(
    size: tuple[int, int], wanted: tuple[int, int], fit: ResizeFit
) -> None:
    for filter in ResizeFilter:
        step = ResizeStep(*wanted, filter, fit)
        assert resize(noise(*size), step, ignored).size == step.size_after(size)


def test_covering_takes_the_middle() -> None:
    canvas = noise(9, 3)

    found = resize(canvas, ResizeStep(3, 3, fit=ResizeFit.COVER), ignored)

    assert np.array_equal(found.pixels, canvas.pixels[:, 3:6])


@settings(max_examples=40, deadline=None)
@given(size=SIZES, factor=st.integers(1, 5), alpha=st.booleans())
def test_nearest_there_and_back_is_the_same(
    size: tuple[int, int], factor: int, alpha: bool
) -> None:
    canvas = noise(*size, alpha=alpha)
    width, height = size
    there = ResizeStep(width * factor, height * factor, ResizeFilter.NEAREST)

    larger = resize(canvas, there, ignored)

    assert np.array_equal(larger.pixels[::factor, ::factor], canvas.pixels)
    assert same(
        resize(larger, ResizeStep(width, height, ResizeFilter.NEAREST), ignored), canvas
    )


@settings(max_examples=40, deadline=None)
@given(size=SIZES, data=st.data(), alpha=st.booleans())
def test_parts_put_together_are_the_picture(
    size: tuple[int, int], data: st.DataObject, alpha: bool
) -> None:
    canvas, (width, height) = noise(*size, alpha=alpha), size
    at = data.draw(st.integers(0, height))
    parts = [
        crop(canvas, CropStep(0, top, width, high), ignored)
        for top, high in ((0, at), (at, height - at))
        if high
    ]

    assert np.array_equal(np.vstack([part.whole() for part in parts]), canvas.whole())
    left = data.draw(st.integers(0, width - 1))
    column = crop(canvas, CropStep(left, 0, 1, height), ignored)
    assert np.array_equal(column.whole()[:, 0], canvas.whole()[:, left])


def test_only_people_stay() -> None:
    """What was transparent before stays transparent; colours are not touched."""
    canvas, (told, between) = Canvas(astronaut()), counted()

    alone = remove_background(canvas, RemoveBackgroundStep(), between)

    assert told == [(1, 1)]
    assert alone.alpha is not None
    assert np.array_equal(alone.pixels, canvas.pixels)
    assert (alone.alpha[120, 145], alone.alpha[10, 10]) == (255, 0)
    half = Canvas(canvas.pixels, np.full((288, 288), 100, np.uint8))
    again = remove_background(half, RemoveBackgroundStep(), ignored)
    assert again.alpha is not None
    assert np.array_equal(again.alpha, np.minimum(alone.alpha, 100))
