"""When a dead worker is started again."""

from __future__ import annotations

import pytest

from server.worker.front.death import end_before_hello
from server.worker.front.restart import RestartPolicy, RestartRules, Verdict


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def policy(**rules: float) -> tuple[RestartPolicy, Clock]:
    clock = Clock()
    return RestartPolicy(RestartRules(**rules), clock), clock  # type: ignore[arg-type]


def test_delays_double_from_the_first() -> None:
    subject, _ = policy()
    assert [subject.died().delay for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]


def test_delays_have_a_longest() -> None:
    subject, _ = policy(deaths=100)
    delays = [subject.died().delay for _ in range(9)]
    assert delays[5:] == [16.0, 30.0, 30.0, 30.0]


def test_five_deaths_in_ten_minutes_quarantine() -> None:
    subject, clock = policy()
    verdicts = []
    for _ in range(5):
        verdicts.append(subject.died())
        clock.now += 149.0
    assert [verdict.quarantined for verdict in verdicts] == [False] * 4 + [True]
    assert verdicts[-1].delay == 900.0


def test_deaths_further_apart_do_not() -> None:
    subject, clock = policy()
    for _ in range(20):
        assert not subject.died().quarantined
        clock.now += 151.0


def test_old_deaths_are_forgotten_in_the_delay() -> None:
    subject, clock = policy()
    subject.died()
    clock.now += 601.0
    assert subject.died() == Verdict(0.5, quarantined=False)


def test_one_death_after_a_quarantine_brings_it_back() -> None:
    subject, clock = policy()
    for _ in range(5):
        subject.died()
    clock.now += 900.0
    assert subject.died() == Verdict(900.0, quarantined=True)


def test_work_that_came_to_its_end_ends_the_probation() -> None:
    subject, clock = policy()
    for _ in range(5):
        subject.died()
    clock.now += 900.0
    subject.worked()
    assert subject.died() == Verdict(0.5, quarantined=False)


def test_an_operator_can_make_it_forget() -> None:
    subject, _ = policy()
    for _ in range(5):
        subject.died()
    subject.forgive()
    assert subject.died() == Verdict(0.5, quarantined=False)


def test_deaths_of_one_model_count_as_one() -> None:
    subject, _ = policy()
    verdicts = [subject.died("model") for _ in range(20)]
    assert not any(verdict.quarantined for verdict in verdicts)
    assert verdicts[3].delay == 4.0


def test_deaths_of_five_different_models_quarantine() -> None:
    subject, _ = policy()
    models = ["one", "two", "one", "three", "", "four"]
    assert [subject.died(model).quarantined for model in models] == [False] * 5 + [True]


def test_a_lack_of_the_systems_never_quarantines() -> None:
    subject, _ = policy()
    verdicts = [subject.starved() for _ in range(40)]
    assert not any(verdict.quarantined for verdict in verdicts)
    assert [verdict.delay for verdict in verdicts[:2]] == [0.5, 1.0]
    assert verdicts[-1].delay == 30.0
    subject.started()
    assert subject.starved().delay == 0.5


@pytest.mark.parametrize(
    "line",
    [
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "libgomp: Thread creation failed: Resource temporarily unavailable",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2",
        "ImportError: libtorch_cpu.so: failed to map segment from shared object",
    ],
)
def test_libraries_that_end_a_start_for_want_of_something_are_believed(line: str) -> None:
    assert end_before_hello("ended with exit code 1", ("hello", line)).starved
    assert not end_before_hello("ended with exit code 1", ("hello",)).starved
