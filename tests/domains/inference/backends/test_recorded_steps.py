"""A generation by recorded steps says so, with a recorder for the processor."""

from __future__ import annotations

import numpy as np
import pytest

from domains.inference.backends.engine import Engine
from domains.inference.backends.step_graphs import StepGraphs
from domains.values import ModelPart
from tests.domains.inference.backends.test_step_graphs import Replaying

SMALL = {"width": 128, "height": 128, "steps": 3}


@pytest.fixture
def recorder(engine: Engine, draw) -> Replaying:
    """What records for the shared engine's model."""
    draw(**SMALL)
    model, recorder = engine._model, Replaying()
    assert model is not None
    kept, model.graphs = model.graphs, StepGraphs(recorder, model.device)
    yield recorder
    model.graphs = kept


def test_the_same_pixels_and_it_is_told(draw, recorder: Replaying, engine: Engine) -> None:
    first, second = draw(**SMALL), draw(**SMALL)
    engine._model.graphs = StepGraphs(None, engine._model.device)
    plain = draw(**SMALL)

    assert first.report.computed.recorded == (ModelPart.DENOISER,)
    assert second.report.computed.recorded == (ModelPart.DENOISER,)
    assert plain.report.computed.recorded == ()
    assert second.report.computed.attention_kernels == plain.report.computed.attention_kernels
    assert recorder.recorded == 1
    assert recorder.replayed == 5
    assert np.array_equal(first.pixels[0], plain.pixels[0])
    assert np.array_equal(second.pixels[0], plain.pixels[0])
