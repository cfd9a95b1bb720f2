"""Models loaded ahead of the first picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.device.jobs import OptimizationJob
from domains.device.types import OptimizationProfile
from domains.errors import Cancelled, FailedPrecondition
from domains.inference.backends.engine import Engine
from domains.inference.types import PrecisionMode
from domains.model.jobs import LoadJob
from domains.session.types import Phase, PhaseStarted, TransferProgress
from domains.values import ModelOrigin, ModelPlace
from tests.fakes import jobs
from tests.fakes.jobs import Listener

MODEL = Path(__file__).parents[4] / "demo" / "models" / "emoji-xl"
JOB = LoadJob("emoji-xl", ModelPlace.of(MODEL))


@pytest.fixture
def own() -> Engine:
    """An engine that holds nothing yet."""
    return Engine("cpu")


def test_bytes_are_told_until_all_are_there(own):
    heard = Listener()
    report = own.load(JOB, heard)
    first, *transfers = heard.events
    assert first == PhaseStarted(Phase.LOADING_MODEL)
    assert all(isinstance(event, TransferProgress) for event in transfers)
    done = [event.done_bytes for event in transfers]
    assert done == sorted(done)
    assert done[-1] == transfers[-1].total_bytes > 0
    assert report.origin is ModelOrigin.DISK
    assert report.loaded == own.held()
    assert {part.component for part in report.loaded} >= {"unet", "vae", "text_encoder"}


def test_a_second_load_loads_nothing(own):
    own.load(JOB, Listener())
    model, heard = own._model, Listener()
    report = own.load(JOB, heard)
    assert report.origin is ModelOrigin.LOADED
    assert report.loaded == own.held()
    assert heard.events == []
    assert own._model is model


def test_an_open_request_finds_it_loaded(own, work):
    own.load(JOB, Listener())
    small = jobs.changed(work, steps=1, width=64, height=64, precision=PrecisionMode.OPEN)
    assert own.generate(small, Listener()).timings.load == 0


def test_it_is_loaded_for_the_precision_of_the_profile(own):
    own.load(JOB, Listener())
    own.optimize(OptimizationJob(OptimizationProfile.FAST), Listener())
    assert own.load(JOB, Listener()).origin is ModelOrigin.DISK
    assert own._model.precision is PrecisionMode.FASTEST


def test_a_stop_in_the_middle_leaves_nothing_half_loaded(own):
    heard = Listener()

    def stop_after_bytes():
        if any(isinstance(event, TransferProgress) for event in heard.events):
            raise Cancelled("stopped")

    heard.check_stop = stop_after_bytes
    with pytest.raises(Cancelled):
        own.load(JOB, heard)
    assert own.held() == ()
    assert own.loaded_path is None
    assert own.load(JOB, Listener()).origin is ModelOrigin.DISK


def test_a_folder_without_a_model_is_refused(own, tmp_path):
    with pytest.raises(FailedPrecondition):
        own.load(LoadJob("nothing", ModelPlace.of(tmp_path)), Listener())
    assert own.held() == ()
