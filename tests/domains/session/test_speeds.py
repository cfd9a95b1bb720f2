"""What is remembered of how long work took, and what is concluded from it."""

from __future__ import annotations

import pytest

from domains.session.core.speeds import Effort, Speeds
from domains.session.types import Phase

LOAD = Phase.LOADING_MODEL
STEPS = Phase.DENOISING
DECODING = Phase.DECODING


def effort(amount: float, *, pixels: int = 100, manner: str = "exact") -> Effort:
    """So much denoising and one decoding."""
    return Effort("emoji", manner, pixels, {STEPS: amount, DECODING: 1.0})


def test_what_took_ten_seconds_takes_twenty_for_twice_as_much() -> None:
    speeds = Speeds()
    speeds.learn("cuda:0", effort(10.0), {LOAD: 3.0, STEPS: 10.0, DECODING: 2.0})

    assert speeds.work_seconds("cuda:0", effort(20.0)) == pytest.approx(22.0)
    assert speeds.load_seconds("cuda:0", "emoji") == pytest.approx(3.0)


def test_other_devices_models_and_manners_are_not_comparable() -> None:
    speeds = Speeds()
    speeds.learn("cuda:0", effort(10.0), {STEPS: 10.0, DECODING: 2.0})

    assert speeds.work_seconds("cuda:1", effort(10.0)) is None
    assert speeds.work_seconds("cuda:0", effort(10.0, manner="fastest")) is None
    other = Effort("style", "exact", 100, {STEPS: 1.0})
    assert speeds.work_seconds("cuda:0", other) is None


def test_the_closest_size_counts() -> None:
    speeds = Speeds()
    speeds.learn("cuda:0", effort(1.0, pixels=100), {STEPS: 1.0})
    speeds.learn("cuda:0", effort(1.0, pixels=10_000), {STEPS: 5.0})

    assert speeds.work_seconds("cuda:0", effort(1.0, pixels=150)) == pytest.approx(1.0)
    assert speeds.work_seconds("cuda:0", effort(1.0, pixels=9_000)) == pytest.approx(5.0)


def test_the_first_work_of_a_worker_is_soon_forgotten() -> None:
    """It takes several times as long as what follows."""
    speeds = Speeds()
    speeds.learn("cuda:0", effort(1.0), {LOAD: 9.0, STEPS: 4.0})
    assert speeds.work_seconds("cuda:0", effort(1.0)) == pytest.approx(4.0)
    speeds.learn("cuda:0", effort(1.0), {LOAD: 3.0, STEPS: 1.25})
    assert speeds.work_seconds("cuda:0", effort(1.0)) == pytest.approx(1.25)
    assert speeds.load_seconds("cuda:0", "emoji") == pytest.approx(3.0)


def test_what_takes_longer_now_is_believed_once_most_of_the_newest_do() -> None:
    speeds = Speeds()
    for took in (1.0, 1.0, 1.0, 2.0, 2.0):
        speeds.learn("cuda:0", effort(1.0), {STEPS: took})
        assert speeds.work_seconds("cuda:0", effort(1.0)) == pytest.approx(1.0)
    speeds.learn("cuda:0", effort(1.0), {STEPS: 2.0})
    assert speeds.work_seconds("cuda:0", effort(1.0)) == pytest.approx(2.0)


def test_a_model_that_lay_there_already_teaches_nothing_about_loading() -> None:
    speeds = Speeds()
    speeds.learn("cuda:0", effort(1.0), {LOAD: 0.0, STEPS: 1.0})

    assert speeds.load_seconds("cuda:0", "emoji") is None


def test_what_took_no_time_at_all_teaches_nothing() -> None:
    """Nothing of it was done."""
    speeds = Speeds()
    for seconds in ({}, {LOAD: 0.0, STEPS: 0.0, DECODING: 0.0}):
        speeds.learn("cuda:0", effort(1.0), seconds)

    assert speeds.work_seconds("cuda:0", effort(1.0)) is None
    assert speeds.lessons == 0


def test_a_load_elsewhere_stands_in_and_its_own_wins() -> None:
    """Both read the same disk."""
    speeds = Speeds()
    speeds.learn("cuda:0", Effort("emoji"), {LOAD: 4.0})
    assert speeds.load_seconds("cuda:1", "emoji") == pytest.approx(4.0)
    speeds.learn("cuda:1", Effort("emoji"), {LOAD: 1.0})
    assert speeds.load_seconds("cuda:1", "emoji") == pytest.approx(1.0)
    assert speeds.load_seconds("cuda:1", "style") is None


def test_work_that_only_loads_takes_no_time_beyond_that() -> None:
    assert Speeds().work_seconds("cuda:0", Effort("emoji")) == 0.0


def test_memory_is_bounded() -> None:
    speeds = Speeds()
    for size in range(5_000):
        speeds.learn("cuda:0", effort(1.0, pixels=size), {LOAD: 1.0, STEPS: 1.0})
        speeds.learn("cuda:0", Effort(f"model {size}"), {LOAD: 1.0})

    assert speeds.load_seconds("cuda:0", "model 0") is None
    assert speeds.load_seconds("cuda:0", "model 4999") == pytest.approx(1.0)
    assert len(speeds._rates) <= 4_096
