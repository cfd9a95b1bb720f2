"""What is done by replays later is measured by replays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from domains.inference.backends import trial_time
from domains.inference.backends.device import Numerics
from domains.inference.backends.speed import fastest
from domains.inference.backends.trial_time import shortest_seconds

CPU = torch.device("cpu")
SHORT = 0.002
LONG = 0.05


class Recorder:
    """Replays take as long as they are told to, whatever is recorded."""

    def __init__(self, replay: float = 0.0, error: Exception | None = None) -> None:
        self.replay, self.error = replay, error
        self.replayed = self.let_go_of = 0

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        if self.error is not None:
            raise self.error
        seconds = self.replay

        def again() -> None:
            self.replayed += 1
            time.sleep(seconds)

        return again, run()

    def let_go(self) -> None:
        self.let_go_of += 1


def test_without_a_recorder_runs_count() -> None:
    runs = []

    def run() -> None:
        time.sleep(LONG if not runs else SHORT)
        runs.append(1)

    assert SHORT <= shortest_seconds(run, CPU, None) < LONG
    assert len(runs) == 4


def test_a_long_run_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_time, "_LONG_TRIAL_SECONDS", SHORT / 2)
    runs = []

    def run() -> None:
        time.sleep(SHORT)
        runs.append(1)

    assert shortest_seconds(run, CPU, None) >= SHORT
    assert len(runs) == 1


def test_with_one_replays_count() -> None:
    recorder = Recorder(SHORT)
    assert SHORT <= shortest_seconds(lambda: time.sleep(LONG), CPU, recorder) < LONG
    assert recorder.replayed == 3


def test_what_cannot_be_recorded_is_run() -> None:
    recorder = Recorder(error=RuntimeError("operation not permitted when capturing"))
    runs: list[int] = []
    shortest_seconds(lambda: runs.append(1), CPU, recorder)
    assert len(runs) == 4
    assert recorder.replayed == 0


@pytest.mark.parametrize("recorder", [None, Recorder(error=RuntimeError("not permitted"))])
def test_without_recordings_something_else_may_count(recorder: Recorder | None) -> None:
    seconds = shortest_seconds(lambda: None, CPU, recorder, lambda: time.sleep(SHORT))
    assert seconds >= SHORT


def test_with_recordings_it_does_not_count() -> None:
    recorder = Recorder()
    assert shortest_seconds(lambda: None, CPU, recorder, lambda: time.sleep(LONG)) < LONG
    assert recorder.replayed == 3


def test_a_shortage_of_memory_is_told() -> None:
    recorder = Recorder(error=torch.OutOfMemoryError("out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        shortest_seconds(lambda: None, CPU, recorder)


def test_numbers_are_chosen_by_replays() -> None:
    """What is launched faster is not what computes faster."""

    class ByType(Recorder):
        def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
            self.replay = replays[run()]  # type: ignore[index]
            return super().record(run)

    exact, half = Numerics(torch.float32), Numerics(torch.bfloat16)
    replays = {exact.data_type: SHORT, half.data_type: LONG}

    def run(_network: nn.Module, numerics: Numerics) -> torch.dtype:
        time.sleep(LONG if numerics is exact else SHORT)
        return numerics.data_type

    def chosen(recorder: Recorder | None) -> Numerics:
        return fastest(
            nn.Linear(2, 2),
            (exact, half),
            run,
            device=CPU,
            check_stop=lambda: None,
            recorder=recorder,
        )[1]

    recorder = ByType()
    assert chosen(None) is half
    assert chosen(recorder) is exact
    assert recorder.let_go_of == 2
