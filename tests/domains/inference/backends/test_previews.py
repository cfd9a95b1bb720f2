"""Previews look like the picture they announce."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from domains.inference.types import Scheduler, SchedulerSettings
from domains.session.types import PreviewSettings


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


def test_a_preview_is_never_larger_than_the_picture(draw):
    drawn = draw(width=64, height=64, steps=1, previews=PreviewSettings(1, 512))
    assert drawn.previews[0].width == 64
