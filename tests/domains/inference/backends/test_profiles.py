"""Profiles: what each changes, what it costs, and that exact requests stay exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from domains.device.jobs import OptimizationJob, OptimizationSetting, ReleaseJob
from domains.device.types import OptimizationProfile
from domains.errors import Cancelled
from domains.inference.backends import step_trial
from domains.inference.backends.engine import Engine
from domains.inference.backends.sliced_attention import SlicedAttention
from domains.inference.types import PrecisionMode
from domains.session.jobs import EncodedImage
from domains.session.types import Phase, PhaseStarted, StepFinished, TransferProgress
from domains.values import DegradationKind, FigureQuality, ModelPlace, TensorDataType
from tests.fakes import jobs
from tests.fakes.jobs import Listener

MODEL = Path(__file__).parents[4] / "demo" / "models" / "emoji-xl"
BALANCED, LOW, FAST = (
    OptimizationProfile.BALANCED,
    OptimizationProfile.LOW_MEMORY,
    OptimizationProfile.FAST,
)


@pytest.fixture
def own() -> Engine:
    """An engine whose profile may be changed."""
    return Engine("cpu")


def optimize(engine, profile, *, measured=False, check_stop=lambda: None):
    heard = Listener(check_stop)
    job = (
        OptimizationJob(profile, "emoji-xl", ModelPlace.of(MODEL))
        if measured
        else OptimizationJob(profile)
    )
    return heard.events, engine.optimize(job, heard)


def draw(engine, work, **changes):
    heard = Listener()
    small = jobs.changed(work, steps=1, width=64, height=64)
    report = engine.generate(jobs.changed(small, **changes), heard)
    return next(e.data for e in heard.events if isinstance(e, EncodedImage)), report


def changed(report):
    return {change.setting: (change.before, change.after) for change in report.changes}


def test_balanced_is_what_an_engine_begins_with(own):
    assert optimize(own, BALANCED)[1].changes == ()


def test_unmeasured_figures_are_unknown(own):
    _, report = optimize(own, LOW)
    assert report.step_before == report.step_after == 0
    assert report.peak_memory_before.quality is FigureQuality.UNKNOWN
    assert report.peak_memory_after.value is None


def test_low_memory_tells_what_it_does_and_going_back_restores_every_bit(own, work):
    size = {"width": 1024, "height": 64}
    before, plain = draw(own, work, **size)
    assert plain.degradations == ()
    _, report = optimize(own, LOW)
    assert changed(report) == {
        OptimizationSetting.ATTENTION_SLICING: ("off", "on"),
        OptimizationSetting.VAE_TILING: ("off", "on"),
    }
    tiled, low = draw(own, work, **size)
    assert {entry.kind for entry in low.degradations} == {
        DegradationKind.ATTENTION_SLICED,
        DegradationKind.VAE_TILED,
    }
    assert tiled != before
    # Small pictures fit into one tile and are decoded whole.
    _, small = draw(own, work)
    assert [entry.kind for entry in small.degradations] == [DegradationKind.ATTENTION_SLICED]
    optimize(own, BALANCED)
    after, plain = draw(own, work, **size)
    assert after == before
    assert plain.degradations == ()


def test_a_profile_holds_for_the_next_model_too(own, work):
    optimize(own, LOW)
    _, report = draw(own, work)
    assert [entry.kind for entry in report.degradations] == [DegradationKind.ATTENTION_SLICED]


def test_each_degradation_is_told_once(own, work):
    optimize(own, LOW)
    _, report = draw(own, work, width=1024, seeds=(1, 2))
    assert len(report.degradations) == 2


def test_slices_give_the_same_numbers(engine, work):
    draw(engine, work, precision=PrecisionMode.EXACT)
    unet = engine._model.networks["unet"]
    attention = next(module for name, module in unet.named_modules() if name.endswith("attn2"))
    torch.manual_seed(0)
    hidden = torch.randn(2, 40, attention.to_q.in_features)
    context = torch.randn(2, 77, attention.to_k.in_features)
    with torch.no_grad():
        plain = attention(hidden, encoder_hidden_states=context)
        sliced = SlicedAttention()(attention, hidden, context)
    torch.testing.assert_close(sliced, plain, rtol=1e-5, atol=1e-6)


def test_a_real_step_is_measured_before_and_after(own):
    events, report = optimize(own, LOW, measured=True)
    assert report.step_before > 0
    assert report.step_after > 0
    assert (report.peak_memory_before.value or 0) > 90 << 20
    phases = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert phases == [Phase.LOADING_MODEL, Phase.MEASURING, Phase.MEASURING]
    steps = [event.step for event in events if isinstance(event, StepFinished)]
    assert steps == [1, 2, 3, 4] * 2
    assert own.loaded_path == MODEL


def test_fast_is_for_requests_that_leave_it_open(own, work, monkeypatch):
    exact, _ = draw(own, work, precision=PrecisionMode.EXACT)

    def settle(model, *_arguments, **_options):
        model.measured = True  # which numbers are fastest has tests of its own

    monkeypatch.setattr(step_trial, "settle_numerics", settle)
    _, report = optimize(own, FAST, measured=True)
    assert changed(report)[OptimizationSetting.PRECISION] == ("exact", "fastest")
    model = own._model
    assert model.precision is PrecisionMode.FASTEST
    draw(own, work, precision=PrecisionMode.OPEN)
    assert own._model is model
    again, facts = draw(own, work, precision=PrecisionMode.EXACT)
    assert again == exact
    assert facts.data_types[0].data_type.value == "float32"
    assert not own._model.runs_code


def test_an_open_request_is_exact_under_the_other_profiles(own, work):
    exact, _ = draw(own, work, precision=PrecisionMode.EXACT)
    assert draw(own, work, precision=PrecisionMode.OPEN)[0] == exact


def test_a_stopped_change_leaves_the_profile_before(own, work):
    draw(own, work)
    calls = 0

    def check_stop():
        nonlocal calls
        calls += 1
        if calls == 7:  # in the measurement after
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        optimize(own, LOW, measured=True, check_stop=check_stop)
    assert draw(own, work)[1].degradations == ()


def test_a_native_size_by_height_and_width_is_tried_as_a_square(engine, work, monkeypatch):
    draw(engine, work, precision=PrecisionMode.EXACT)
    model = engine._model
    monkeypatch.setitem(model.plan_config("unet"), "sample_size", [16, 32])
    assert step_trial.StepTrial(model).width == 32 * model.pixels_per_latent


def test_what_is_held_is_told_with_its_bytes(own, work):
    assert own.held() == ()
    seen = []
    context = Listener()
    context.emit = lambda event: (
        seen.append(own.held()) if isinstance(event, StepFinished) else None
    )
    own.generate(jobs.changed(work, steps=1, width=64, height=64), context)
    assert {part.component for part in own.held()} == {
        "text_encoder",
        "text_encoder_2",
        "unet",
        "vae",
    }
    unet = next(part for part in own.held() if part.component == "unet")
    parameters = own._model.networks["unet"].parameters()
    assert unet.size.value == sum(parameter.numel() * 4 for parameter in parameters)
    assert (unet.model_id, unet.data_type, unet.in_use) == (
        "emoji-xl",
        TensorDataType.FLOAT32,
        False,
    )
    assert all(part.in_use for part in seen[0])
    assert own.held()[0].last_use_time >= seen[0][0].last_use_time


def test_released_models_are_named_and_gone(own, work):
    nothing = own.release(ReleaseJob(), Listener())
    assert nothing.released == ()
    draw(own, work)
    held = own.held()
    other = ReleaseJob(("another",))
    assert own.release(other, Listener()).released == ()
    assert own.held() == held
    report = own.release(ReleaseJob(), Listener())
    assert report.released == held
    assert report.reloaded == own.held() == ()


def test_a_reload_brings_the_same_model_back(own, work):
    before, _ = draw(own, work)
    heard = Listener()
    report = own.release(ReleaseJob(("emoji-xl",), reload=True), heard)
    assert [part.component for part in report.reloaded] == [
        part.component for part in report.released
    ]
    assert any(isinstance(event, TransferProgress) for event in heard.events)
    after, facts = draw(own, work)
    assert after == before
    assert facts.timings.load == 0


def test_a_stopped_reload_leaves_nothing_half_loaded(own, work):
    draw(own, work)
    left = 4

    def check_stop():
        nonlocal left
        left -= 1
        if left == 0:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        own.release(ReleaseJob(reload=True), Listener(check_stop))
    assert own.held() == ()
    assert np.frombuffer(draw(own, work)[0][:8], np.uint8)[0] == 0x89
