"""Work beside the main thread's: handed on in order, streams in place, recording apart."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from domains.device.backends import torch_gauge
from domains.errors import Cancelled
from domains.inference.backends import beside
from domains.inference.backends.beside import Beside, NotBeside, lane_of, one_at_a_time
from domains.inference.backends.step_graphs import StepGraphs

_LONG = 30.0


def test_what_was_begun_is_handed_on_before_the_next_begins() -> None:
    got: list[int] = []
    with Beside[int](nullcontext) as work:
        for number in range(5):
            work.start(lambda number=number: number, lambda: -1, got.append)
            assert got[:number] == list(range(number))
    assert got == list(range(5))


def test_it_tells_whether_it_is_at_work() -> None:
    begun, end = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        assert end.wait(_LONG)
        return 1

    got: list[int] = []
    with Beside[int](nullcontext) as work:
        assert not work.at_work
        work.start(slow, lambda: -1, got.append)
        assert begun.wait(_LONG)
        assert work.at_work
        end.set()
        work.wait()
        assert not work.at_work
    assert got == [1]


def test_what_is_not_for_there_is_made_here_by_the_thread_that_waits() -> None:
    threads: list[threading.Thread] = []

    def elsewhere() -> int:
        raise NotBeside

    def here() -> int:
        threads.append(threading.current_thread())
        return 1

    got: list[int] = []
    with Beside[int](nullcontext) as work:
        work.start(elsewhere, here, got.append)
    assert (got, threads) == ([1], [threading.main_thread()])


def test_an_error_there_is_raised_once_where_it_is_waited_for() -> None:
    def broken() -> int:
        raise ValueError("broken")

    with Beside[int](nullcontext) as work:
        work.start(broken, lambda: 1, lambda _: None)
        with pytest.raises(ValueError, match="broken"):
            work.wait()
        work.wait()


def test_an_error_there_does_not_hide_the_one_that_ends_the_work() -> None:
    def broken() -> int:
        raise ValueError("broken")

    def failing() -> None:
        with Beside[int](nullcontext) as work:
            work.start(broken, lambda: 1, lambda _: None)
            raise KeyError("the first")

    with pytest.raises(KeyError, match="the first"):
        failing()


def test_what_is_dropped_ends_at_its_next_check() -> None:
    begun, got = threading.Event(), []

    def cancelled() -> None:
        with Beside[int](nullcontext) as work:

            def long() -> int:
                begun.set()
                while True:
                    work.check()

            work.start(long, lambda: 1, got.append)
            assert begun.wait(_LONG)
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        cancelled()
    assert got == []


class Streams:
    """A backend's streams, which tell what they are asked for."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []

    def _tell(self, what: str) -> None:
        self.told.append((what, threading.current_thread() is threading.main_thread()))

    def Stream(self, device: torch.device) -> Any:
        self._tell("made")
        return self

    def current_stream(self, device: torch.device) -> Any:
        return self

    def record_event(self) -> str:
        self._tell("recorded")
        return "event"

    def wait_event(self, event: str) -> None:
        assert event == "event"
        self._tell("waited")

    def synchronize(self) -> None:
        self._tell("synchronized")

    @contextmanager
    def device(self, device: torch.device) -> Any:
        yield

    stream = device


def test_a_stream_sees_what_was_asked_before_and_is_done_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = Streams()
    monkeypatch.setattr(beside, "backend_of", lambda _: streams)
    lane = lane_of(torch.device("cuda:0"))
    assert lane is not None

    def broken() -> int:
        streams._tell("worked")
        raise ValueError("broken")

    with Beside[int](lane) as work:
        for _ in range(2):
            work.start(broken, lambda: 1, lambda _: None)
            with pytest.raises(ValueError, match="broken"):
                work.wait()
    round = [("recorded", True), ("waited", False), ("worked", False), ("synchronized", False)]
    assert streams.told == [("made", True), *round, *round]


@pytest.mark.parametrize("device", ["cpu", "mps", "privateuseone:0"])
def test_devices_without_streams_have_no_lane(device: str) -> None:
    if device == "mps":
        assert not hasattr(torch_gauge.backend_of(torch.device(device)), "Stream")
    kind = torch.device(device) if device != "privateuseone:0" else _unnamed(device)
    assert lane_of(kind) is None


def _unnamed(device: str) -> Any:
    """What torch calls DirectML's devices, whatever another test has renamed."""

    class Named:
        type = device.split(":", maxsplit=1)[0]

    return Named()


def test_nothing_else_is_asked_of_a_device_while_steps_are_recorded() -> None:
    network, order = nn.Linear(2, 2), []

    class Recorder:
        def record(self, run: Any) -> Any:
            free = one_at_a_time.acquire(blocking=False)
            assert free
            one_at_a_time.release()
            order.append("recorded")
            run()
            raise NotImplementedError

        def let_go(self) -> None:
            pass

    graphs = StepGraphs(Recorder(), torch.device("cpu"))
    call = graphs.bound(network)
    call(torch.ones(1, 2))
    held = threading.Event()

    def decode() -> None:
        with one_at_a_time:
            held.set()
            threading.Event().wait(0.1)
            order.append("decoded")

    other = threading.Thread(target=decode)
    other.start()
    assert held.wait(_LONG)
    call(torch.ones(1, 2))
    other.join()
    assert order == ["decoded", "recorded"]
