"""Previews of chains: they come where they are asked for, and show what will come out."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domains.chain.backends import finishing
from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.previews import ChainPreviews
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.chain.backends.upscaling.tiled import Box
from domains.chain.backends.work import process
from domains.chain.jobs import ChainJob
from domains.chain.types import (
    ColorStep,
    CropStep,
    FaceRestoreStep,
    RestorerModel,
    SharpenStep,
    Step,
    UpscaleStep,
)
from domains.picture.types import PreparedPicture
from domains.session.jobs import EncodedImage
from domains.session.types import MAX_PREVIEW_BYTES, Preview, PreviewSettings
from domains.values import ModelPlace, OutputSettings
from tests.domains.chain.backends.restoring.files import painting
from tests.domains.chain.backends.restoring.files import saved as restorer
from tests.domains.chain.backends.test_work import model
from tests.domains.chain.backends.upscaling.files import CPU
from tests.domains.chain.photograph import EYES, astronaut
from tests.domains.chain.pictures import noise

STEPS = (ColorStep(contrast=1.5), SharpenStep(), CropStep(8, 0, 60, 20), SharpenStep())
OFTEN = PreviewSettings(every_steps=1, max_edge_pixels=64)


@dataclass
class Context:
    """Keeps what is told."""

    told: list[object] = field(default_factory=list)

    def emit(self, event: object) -> None:
        self.told.append(event)

    def check_stop(self) -> None: ...

    @property
    def previews(self) -> list[Preview]:
        return [each for each in self.told if isinstance(each, Preview)]

    @property
    def file(self) -> bytes:
        [encoded] = [each for each in self.told if isinstance(each, EncodedImage)]
        return encoded.data


def done(
    canvas: Canvas,
    steps: tuple[Step, ...],
    size: tuple[int, int],
    wanted: PreviewSettings,
    at: Path,
) -> Context:
    """What is told of a chain on a picture."""
    data = canvas.whole().tobytes()
    (at / "picture").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    alpha = canvas.alpha is not None
    picture = PreparedPicture(at / "picture", *canvas.size, digest, alpha=alpha)
    job = ChainJob(picture, steps, *size, OutputSettings(), previews=wanted)
    context = Context()
    process(job, UpscalerShelf(CPU), context)
    return context


def pixels_of(preview: Preview) -> Pixels:
    """Of its file, which has the size that it says."""
    image = Image.open(io.BytesIO(preview.jpeg))
    assert (image.format, image.mode, image.size) == (
        "JPEG",
        "RGB",
        (preview.width, preview.height),
    )
    return np.asarray(image)


def alike(one: Pixels, other: Pixels) -> float:
    """Correlation of two pictures of one size."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_tiles_show_a_picture_that_looks_like_the_result(tmp_path: Path) -> None:
    step = UpscaleStep(factor=2, tile_pixels=64, model=model(tmp_path))
    canvas = Canvas(astronaut()[:200, :150])

    shown = done(canvas, (step,), (300, 400), OFTEN, tmp_path)
    plain = done(canvas, (step,), (300, 400), PreviewSettings(), tmp_path)

    assert shown.file == plain.file
    assert plain.previews == []
    assert shown.previews
    result = Image.open(io.BytesIO(shown.file)).convert("RGB")
    small = np.asarray(result.resize((48, 64), Image.Resampling.BOX))
    for each in shown.previews:
        assert (each.width, each.height, each.image_index) == (48, 64, 0)
        assert alike(pixels_of(each), small) > 0.95


@pytest.mark.parametrize(("every", "numbers"), [(1, [1, 2, 3]), (2, [2]), (3, [3]), (4, [])])
def test_steps_are_shown_but_the_last(every: int, numbers: list[int], tmp_path: Path) -> None:
    canvas = Canvas(np.ascontiguousarray(astronaut()[:80, :120]))

    shown = done(canvas, STEPS, (60, 20), PreviewSettings(every, 100), tmp_path)

    assert [each.step for each in shown.previews] == numbers
    sizes = {1: (100, 67), 2: (100, 67), 3: (60, 20)}
    assert [(each.width, each.height) for each in shown.previews] == [
        sizes[number] for number in numbers
    ]
    for each in shown.previews:
        if each.step == 3:
            result = np.asarray(Image.open(io.BytesIO(shown.file)))
            assert alike(pixels_of(each), result) > 0.95


def test_nothing_is_made_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refuses:
        def __init__(self, *_: object) -> None:
            raise AssertionError("a preview that nobody asked for")

    monkeypatch.setattr(finishing, "ChainPreviews", Refuses)
    steps = (UpscaleStep(factor=2, tile_pixels=16, model=model(tmp_path)), SharpenStep())

    assert done(noise(30, 20), steps, (60, 40), PreviewSettings(), tmp_path).previews == []
    with pytest.raises(AssertionError, match="nobody"):
        done(noise(30, 20), steps, (60, 40), OFTEN, tmp_path)


@dataclass
class Watch:
    """Time as it is set."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


def test_tiles_are_shown_four_times_a_second_at_most() -> None:
    context, watch = Context(), Watch()
    previews = ChainPreviews(PreviewSettings(2, 64), 3, context.emit, watch)
    forming = previews.enlarging(noise(8, 8), (16, 16))

    for done in range(1, 21):
        watch.at = done * 0.1
        forming.tile(torch.zeros(3, 4, 4), Box(0, 0, 0.5, 0.5), done)

    # Of every second tile those that come a quarter of a second later.
    assert [each.step for each in context.previews] == [2, 6, 10, 14, 18]
    assert {each.image_index for each in context.previews} == {3}


def test_a_tile_shows_where_it_lies_and_the_rest_as_it_was() -> None:
    context = Context()
    white = Canvas(np.full((20, 40, 3), 255, np.uint8))
    forming = ChainPreviews(PreviewSettings(1, 40), 0, context.emit).enlarging(white, (80, 40))

    forming.tile(torch.zeros(3, 20, 20), Box(0.5, 0.0, 0.75, 0.5), 1)

    [preview] = context.previews
    levels = pixels_of(preview).astype(int)
    assert levels.shape == (20, 40, 3)
    assert levels[1:9, 21:29].max() < 16
    levels[:10, 20:30] = 255
    assert levels[:, :18].min() > 230
    assert levels[12:].min() > 230
    assert white.pixels.min() == 255


def test_faces_are_shown_as_they_are_redrawn(tmp_path: Path) -> None:
    green = RestorerModel("green", ModelPlace.of(restorer(painting(0, 1, 0), tmp_path)))
    canvas = Canvas(np.concatenate((astronaut(), astronaut()[:, ::-1]), 1))
    step = FaceRestoreStep(strength=1.0, model=green)

    shown = done(canvas, (step,), canvas.size, PreviewSettings(1, 512), tmp_path)
    plain = done(canvas, (step,), canvas.size, PreviewSettings(), tmp_path)

    assert shown.file == plain.file
    assert plain.previews == []
    # The second one comes within a quarter of a second or not.
    assert shown.previews[0].step == 1
    first = pixels_of(shown.previews[0]).astype(int)
    result = np.asarray(Image.open(io.BytesIO(shown.file)).resize((512, 256))).astype(int)
    x, y = (round(at * 256 / 288) for at in EYES[0])
    greens = [first[y, each][1] > 240 and first[y, each][0] < 15 for each in (x, 511 - x)]
    assert sorted(greens) == [False, True]
    assert all(result[y, each][0] < 15 for each in (x, 511 - x))


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    colours = np.zeros((20, 20, 3), np.uint8)
    alpha = np.full((20, 20), 255, np.uint8)
    alpha[:, 10:] = 0
    steps = (UpscaleStep(factor=2, model=model(tmp_path)), SharpenStep())

    shown = done(Canvas(colours, alpha), steps, (40, 40), OFTEN, tmp_path)

    assert len(shown.previews) >= 2
    for each in shown.previews:
        levels = pixels_of(each)
        assert levels[:, -8:].min() > 200
        assert levels[:, :8].max() < 100


def test_the_largest_preview_of_noise_is_within_the_bound() -> None:
    context = Context()
    random = np.random.default_rng(1)
    worst = Canvas(random.integers(0, 2, (512, 512, 3), dtype=np.uint8) * np.uint8(255))

    ChainPreviews(PreviewSettings(1, 512), 0, context.emit).step(worst, 1, 2)

    [preview] = context.previews
    assert (preview.width, preview.height) == (512, 512)
    assert 100_000 < len(preview.jpeg) <= MAX_PREVIEW_BYTES


def test_a_large_picture_is_sampled_evenly() -> None:
    context = Context()
    ramp = np.linspace(0, 255, 3_000).round().astype(np.uint8)
    wide = Canvas(np.repeat(np.repeat(ramp[None, :, None], 900, 0), 3, 2))

    ChainPreviews(PreviewSettings(1, 64), 0, context.emit).step(wide, 1, 2)

    [preview] = context.previews
    assert (preview.width, preview.height) == (64, 19)
    expected = np.asarray(wide.image().resize((64, 19), Image.Resampling.BOX)).astype(int)
    assert np.abs(pixels_of(preview) - expected).max() <= 6
