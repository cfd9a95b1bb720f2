"""How far the host is ahead of a make-believe device whose clock stands still between calls."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from domains.inference.backends import step_fence
from domains.inference.backends.step_fence import StepFence


class Device:
    """Does what is queued one after another, as torch's devices do beside the host."""

    def __init__(self) -> None:
        self.now = self.free_at = self.idle = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def queue(self, seconds: float) -> None:
        begins = max(self.now, self.free_at)
        self.idle += begins - self.free_at
        self.free_at = begins + seconds

    def left(self) -> float:
        return max(0.0, self.free_at - self.now)

    def event(self) -> Any:
        device = self

        class Event:
            at = 0.0

            def record(self) -> None:
                self.at = device.free_at

            def query(self) -> bool:
                return self.at <= device.now

            def synchronize(self) -> None:
                device.now = max(device.now, self.at)

        return Event()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(step_fence, "time", made)
    monkeypatch.setattr(
        step_fence, "backend_of", lambda _: SimpleNamespace(Event=lambda: made.event())
    )
    return made


def nothing() -> None:
    pass


def run(
    device: Device,
    steps: list[float],
    *,
    host: float = 0.001,
    late: Callable[[], bool] = lambda: True,
    check: Callable[[], None] = nothing,
) -> list[float]:
    """What the device had left to do as each step was queued; all is done at the end."""
    fence, left = StepFence(torch.device("cuda"), late=late), []
    for seconds in steps:
        fence.await_turn(check)
        device.now += host
        left.append(device.left())
        device.queue(seconds)
        fence.step_queued()
    fence.wait()
    assert device.left() == 0
    return left


def test_a_step_is_queued_shortly_before_the_one_at_work_ends(device: Device) -> None:
    left = run(device, [0.1] * 10)
    assert all(0 < each <= 0.2 * 0.1 + 0.001 for each in left[3:])
    assert device.idle == pytest.approx(0.001)  # before the first one


def test_a_host_that_takes_as_long_as_the_device_does_not_wait(device: Device) -> None:
    run(device, [0.1] * 20, host=0.09)
    assert device.idle == pytest.approx(0.09)


def test_a_slow_host_does_not_wait(device: Device) -> None:
    run(device, [0.1] * 10, host=0.15)
    assert device.now == pytest.approx(10 * 0.15 + 0.1)


def test_a_shorter_step_is_noticed_as_it_ends(device: Device) -> None:
    run(device, [0.1] * 5 + [0.05] * 5)
    # Until a look, and what queueing takes.
    assert device.idle <= 0.001 + 0.001 + 0.001 + 1e-9


def test_a_longer_step_costs_nothing(device: Device) -> None:
    run(device, [0.05] * 5 + [0.1] * 5)
    assert device.idle == pytest.approx(0.001)


def test_short_steps_are_queued_some_time_before(device: Device) -> None:
    left = run(device, [0.004] * 10)
    assert all(each >= 0.001 for each in left[3:])


def test_whoever_stops_in_the_middle_of_a_step_waits_for_that_one(device: Device) -> None:
    queued = []

    def stop() -> None:
        if device.now >= 0.55:
            queued.append(device.left())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(device, [0.1] * 10, check=stop)
    assert queued[0] <= 0.05 + 0.001 + 1e-9  # what began before it was asked to


def test_a_host_that_may_be_held_up_is_one_step_ahead(device: Device) -> None:
    left = run(device, [0.1] * 5, late=lambda: False)
    assert all(each == pytest.approx(0.099) for each in left[2:])


def test_it_does_not_wait_any_more_once_the_host_may_be_held_up(device: Device) -> None:
    left = run(device, [0.1] * 10, late=lambda: device.now < 0.53)
    assert left[3] <= 0.021 < 0.065 <= left[6]


def test_where_calls_block_nothing_is_waited_for() -> None:
    fence, checked = StepFence(torch.device("cpu")), []
    for step in range(3):
        fence.await_turn(lambda: checked.append(1))
        fence.step_queued()
        assert len(checked) == step + 1
    fence.wait()
