"""Pictures of a model and of its copy, compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.errors import Cancelled, FailedPrecondition
from domains.inference.backends.engine import Engine
from domains.model.jobs import ComparisonJob, LoadJob
from domains.session.types import StepFinished
from domains.values import ModelPlace
from tests.fakes.jobs import Listener
from tests.fakes.tiny_models import save_sd1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the same numbers."""
    root = tmp_path_factory.mktemp("models")
    save_sd1(root / "one")
    save_sd1(root / "two")
    return root


def job(folder: Path, other: str = "two") -> ComparisonJob:
    return ComparisonJob(
        "one", ModelPlace.of(folder / "one"), other, ModelPlace.of(folder / other)
    )


def test_what_lay_there_stays_and_what_was_loaded_for_it_goes(folder: Path) -> None:
    engine, heard = Engine("cpu"), Listener()
    engine.load(LoadJob("one", ModelPlace.of(folder / "one")), Listener())
    assert engine.compare(job(folder), heard).similarity_db == 100
    assert {part.model_id for part in engine.held()} == {"one"}
    steps = [event for event in heard.events if isinstance(event, StepFinished)]
    assert len(steps) == 20


@pytest.mark.parametrize("error", [Cancelled, FailedPrecondition])
def test_what_breaks_off_leaves_the_device_as_it_was(folder: Path, error: type) -> None:
    engine, heard = Engine("cpu"), Listener()
    if error is Cancelled:

        def stop() -> None:
            if any(isinstance(event, StepFinished) for event in heard.events):
                raise Cancelled("stopped")

        heard.check_stop = stop
        with pytest.raises(Cancelled):
            engine.compare(job(folder), heard)
    else:
        (folder / "empty").mkdir(exist_ok=True)
        with pytest.raises(FailedPrecondition):
            engine.compare(job(folder, "empty"), heard)
    assert engine.held() == ()
