"""Previews look like the picture they announce."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from domains.chain.types import ColorStep, SharpenStep, UpscaleStep
from domains.inference.backends.engine import Engine
from domains.inference.jobs import GenerationJob
from domains.inference.types import Scheduler, SchedulerSettings
from domains.session.jobs import EncodedImage
from domains.session.types import ImageDecoded, Preview, PreviewSettings
from tests.domains.chain.backends.test_work import model as upscaler
from tests.fakes.jobs import Listener, changed


def files(heard: Listener) -> list[bytes]:
    return [each.data for each in heard.events if isinstance(each, EncodedImage)]


def previews(heard: Listener) -> list[Preview]:
    return [each for each in heard.events if isinstance(each, Preview)]


@pytest.mark.demonstration
@pytest.mark.parametrize(
    "scheduler",
    [Scheduler.EULER_DISCRETE, Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.HEUN_DISCRETE],
)
def test_the_last_preview_resembles_the_picture(draw, scheduler):
    drawn = draw(
        steps=8, previews=PreviewSettings(4, 64), scheduler=SchedulerSettings(scheduler)
    )
    assert [(preview.image_index, preview.step) for preview in drawn.previews] == [
        (0, 4),
        (0, 8),
    ]
    last = np.asarray(Image.open(io.BytesIO(drawn.previews[-1].jpeg))).astype(int)
    assert last.shape == (64, 64, 3)
    small = np.asarray(Image.fromarray(drawn.pixels[0]).resize((64, 64))).astype(int)
    assert np.abs(last - small).mean() < 30
    assert np.corrcoef(last.ravel(), small.ravel())[0, 1] > 0.9


def test_previews_keep_the_shape_and_change_no_pixel(draw):
    plain = draw(width=256, height=128, steps=2)
    drawn = draw(width=256, height=128, steps=2, previews=PreviewSettings(1, 100))
    assert [(shown.width, shown.height) for shown in drawn.previews] == [(100, 50)] * 2
    assert np.array_equal(plain.pixels[0], drawn.pixels[0])


def test_its_own_chain_is_shown_too(
    engine: Engine, work: GenerationJob, tmp_path: Path
) -> None:
    """Each step but the last, and tiles; the files are the same with it and without."""
    upscale = UpscaleStep(factor=2, tile_pixels=32, model=upscaler(tmp_path))
    job = changed(work, width=64, height=64, steps=2, seeds=(1, 2))
    job = replace(
        job,
        steps=(SharpenStep(), upscale, ColorStep(contrast=1.5)),
        finished_width=128,
        finished_height=128,
    )
    plain, shown, rarely = Listener(), Listener(), Listener()
    engine.generate(job, plain)
    engine.generate(replace(job, previews=PreviewSettings(1, 512)), shown)
    engine.generate(replace(job, previews=PreviewSettings(150, 512)), rarely)

    for heard in (shown, rarely):
        assert files(heard) == files(plain)
    assert previews(plain) == previews(rarely) == []
    for index in range(2):
        own = [each for each in shown.events if getattr(each, "image_index", None) == index]
        at = next(i for i, each in enumerate(own) if isinstance(each, ImageDecoded))
        chain = [each for each in own[at:] if isinstance(each, Preview)]
        sizes = [(each.width, each.height) for each in chain]
        # Of tiles four a second at most: the first in any case.
        assert sizes[0] == (64, 64)
        assert set(sizes[1:]) == {(128, 128)}
        assert [chain[0].step, chain[1].step, chain[-1].step] == [1, 1, 2]
        [data] = [each.data for each in own if isinstance(each, EncodedImage)]
        result = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        last = np.asarray(Image.open(io.BytesIO(chain[-1].jpeg)))
        assert np.corrcoef(last.ravel(), result.ravel())[0, 1] > 0.9


def test_a_preview_is_never_larger_than_the_picture(draw):
    drawn = draw(width=64, height=64, steps=1, previews=PreviewSettings(1, 512))
    assert drawn.previews[0].width == 64
