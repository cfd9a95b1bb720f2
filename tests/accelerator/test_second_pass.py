"""A second pass by an upscaler on a card: what the processor draws but for rounding, and the
same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from domains.inference.backends.engine import Engine
from domains.inference.jobs import Companion, GenerationJob
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
    SecondPass,
    SecondPassUpscale,
)
from domains.model.types import ModelType
from domains.session.jobs import EncodedImage
from domains.values import ModelPlace
from tests.domains.model.disk import DEMO
from tests.fakes.jobs import Listener

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")
UPSCALER = "compact-2x"
WORK = GenerationJob(
    GenerationSettings(
        model_id="one",
        prompt="a red apple",
        width=256,
        height=256,
        steps=8,
        seeds=(7,),
        guidance=GuidanceSettings(6.0),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
        precision=PrecisionMode.EXACT,
        second_pass=SecondPass(
            upscale=SecondPassUpscale.MODEL,
            scale=2.0,
            strength=0.5,
            steps=4,
            guidance=GuidanceSettings(6.0),
            postprocessor_id=UPSCALER,
        ),
    ),
    ModelPlace.of(DEMO),
    companions=(
        Companion(
            UPSCALER,
            ModelType.UPSCALER,
            ModelPlace.of(DEMO.parent / f"{UPSCALER}.safetensors"),
        ),
    ),
)


@pytest.fixture(scope="module")
def card() -> Iterator[Engine]:
    engine = Engine("cuda:0")
    yield engine
    engine.unload()


def drawn(engine: Engine) -> bytes:
    listener = Listener()
    engine.generate(WORK, listener)
    (image,) = [each for each in listener.events if isinstance(each, EncodedImage)]
    return image.data


def levels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float64)


def test_it_is_the_processors_but_for_rounding(card: Engine) -> None:
    """One seed means one noise on every kind of device."""
    first = drawn(card)
    assert drawn(card) == first == drawn(card), "recorded or not"
    processor = Engine("cpu")
    ours, theirs = levels(first), levels(drawn(processor))
    processor.unload()
    assert ours.shape == theirs.shape == (512, 512, 3)
    apart = np.sqrt(((ours - theirs) ** 2).mean())
    assert apart < 255 / 10 ** (30 / 20), "a PSNR of 30 dB at least"
    assert ours.std() > 20, "something is drawn"
