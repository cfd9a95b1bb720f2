"""Models that end workers are kept off the device, and come back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from domains.errors import Internal, Reason
from domains.session.jobs import ModelFiles
from server.worker.front.model_bars import ModelBarred, ModelBars, states_of
from server.worker.front.restart import RestartRules
from tests.server.worker.test_restart import Clock

WHY = "The worker was ended by signal SIGSEGV."


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    (tmp_path / "m" / "unet").mkdir(parents=True)
    (tmp_path / "m" / "unet" / "weights").write_bytes(b"weights")
    return ModelFiles("m", tmp_path / "m")


class Bars:
    """Bars under a clock, asked as the front asks them."""

    def __init__(self, **rules: float) -> None:
        self.clock = Clock()
        self.bars = ModelBars("cpu:0", RestartRules(**rules), self.clock)  # type: ignore[arg-type]

    def died(self, model: ModelFiles) -> Internal | None:
        return self.bars.died(model, WHY, states_of(model))

    def check(self, model: ModelFiles) -> None:
        if self.bars.barred(model):
            self.bars.check(model, states_of(model))


def test_the_first_death_may_be_tried_again_the_second_not(model: ModelFiles) -> None:
    subject = Bars()
    assert subject.died(model) is None
    second = subject.died(model)
    assert second is not None
    assert second.reason is Reason.WORKER_CRASH_REPEATED
    assert second.metadata["deaths"] == "2"
    assert WHY in second.message
    subject.check(model)  # it is not barred yet


def test_the_third_death_bars_the_model_with_its_reason(model: ModelFiles) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    with pytest.raises(ModelBarred) as barred:
        subject.check(model)
    assert barred.value.reason is Reason.MODEL_BARRED
    assert barred.value.metadata == {"model_id": "m", "device_id": "cpu:0"}
    assert barred.value.retry_after == 900.0
    assert "RestartWorker" in barred.value.message
    assert WHY in barred.value.message


def test_another_model_is_not_concerned(model: ModelFiles, tmp_path: Path) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    subject.check(ModelFiles("other", tmp_path / "other"))


def test_deaths_further_apart_do_not_add_up(model: ModelFiles) -> None:
    subject = Bars()
    for _ in range(9):
        assert subject.died(model) is None
        subject.clock.now += 601.0


def test_a_bar_ends_and_one_more_death_brings_it_back(model: ModelFiles) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    subject.clock.now += 901.0
    subject.check(model)
    assert subject.died(model) is not None
    with pytest.raises(ModelBarred):
        subject.check(model)


def test_a_success_after_a_bar_ends_the_probation(model: ModelFiles) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    subject.clock.now += 901.0
    subject.bars.worked(model)
    assert subject.died(model) is None


def test_a_success_between_does_not_hide_deaths(model: ModelFiles) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
        subject.bars.worked(model)
    with pytest.raises(ModelBarred):
        subject.check(model)


@pytest.mark.parametrize("change", ["rewritten", "added", "touched", "gone"])
def test_changed_files_lift_it(model: ModelFiles, change: str) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    weights = model.path / "unet" / "weights"
    match change:
        case "rewritten":
            weights.write_bytes(b"other weights")
        case "added":
            (model.path / "unet" / "config.json").touch()
        case "touched":
            os.utime(weights, (1, 1))
        case "gone":
            weights.unlink()
    subject.check(model)
    assert subject.died(model) is None


def test_an_operator_lifts_it(model: ModelFiles) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    subject.bars.forgive()
    subject.check(model)


@pytest.fixture
def lora(tmp_path: Path) -> ModelFiles:
    (tmp_path / "ink").write_bytes(b"weights")
    return ModelFiles("ink", tmp_path / "ink")


def test_models_that_die_together_are_barred_together(
    model: ModelFiles, lora: ModelFiles
) -> None:
    """Nobody knows which of them it was."""
    subject, both = Bars(), replace(model, beside=(lora,))
    deaths = [subject.died(both) for _ in range(3)]
    assert deaths[-1] is not None
    assert "'m' together with 'ink'" in deaths[-1].message
    with pytest.raises(ModelBarred, match="'m' together with 'ink'"):
        subject.check(both)
    subject.check(model)
    subject.check(replace(model, beside=(ModelFiles("other", lora.path.with_name("o")),)))

    lora.path.write_bytes(b"other weights")
    subject.check(both)


def test_a_barred_model_is_barred_in_any_company(model: ModelFiles, lora: ModelFiles) -> None:
    subject = Bars()
    for _ in range(3):
        subject.died(model)
    with pytest.raises(ModelBarred, match="'m' ended"):
        subject.check(replace(model, beside=(lora,)))
    with pytest.raises(ModelBarred, match="'m' ended"):
        subject.check(replace(lora, beside=(model,)))
