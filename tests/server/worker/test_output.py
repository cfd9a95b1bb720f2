"""What a worker prints is read at a bounded rate."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from server.allowance import Allowance
from server.worker.front.output import WorkerOutput
from tests.server.worker.test_restart import Clock


class Printed:
    """Output of a worker that a test writes, and the lines that came of it."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self.lines: list[str] = []
        self.gone = threading.Event()
        self.output = WorkerOutput(os.fdopen(reading, "rb"), self.lines.append, self.gone)
        self.written = 0

    def write(self, line: bytes, count: int) -> None:
        for _ in range(count):
            self.written += os.write(self.writing, line)
        os.close(self.writing)


@pytest.fixture
def printed() -> Iterator[Printed]:
    printed = Printed()
    yield printed
    printed.gone.set()
    printed.output.close()


def test_an_allowance_comes_back_with_time() -> None:
    clock = Clock()
    subject = Allowance(10, 5, clock)
    assert [subject.has(1) for _ in range(11)] == [True] * 10 + [False]
    clock.now += 1.0
    assert [subject.has(1) for _ in range(6)] == [True] * 5 + [False]
    clock.now += 1000.0
    assert [subject.has(1) for _ in range(11)] == [True] * 10 + [False]


def test_an_allowance_says_how_long_to_wait() -> None:
    subject = Allowance(10, 5, Clock())
    assert subject.take(10) == 0.0
    assert subject.take(5) == 1.0
    assert subject.take(5) == 2.0


def test_lines_come_cut_and_printable(printed: Printed) -> None:
    printed.output.start()
    printed.write(b"\x1b[31mred\xff\n" + b"x" * 5000 + b"\n", 1)
    printed.output.close()
    assert printed.lines == [" [31mred\ufffd", "x" * 4096, "x" * 904]
    assert printed.output.last_lines == tuple(printed.lines)


def test_of_a_flood_most_lines_are_counted(printed: Printed) -> None:
    printed.gone.set()  # so that it is not read slowly
    printed.output.start()
    printed.write(b"ERROR no good\n", 20_000)
    printed.output.close()
    passed = [line for line in printed.lines if line == "ERROR no good"]
    omitted = [line for line in printed.lines if line != "ERROR no good"]
    assert 200 <= len(passed) <= 250
    assert sum(int(line.split()[1]) for line in omitted) == 20_000 - len(passed)
    assert len(printed.output.last_lines) == 50


def test_who_prints_too_much_waits_for_its_own_output(printed: Printed) -> None:
    printed.output.start()
    writing = threading.Thread(target=printed.write, args=(b"x" * 99 + b"\n", 100_000))
    writing.start()
    began, at_once = time.monotonic(), 1_000_000
    while printed.written < at_once:
        assert time.monotonic() - began < 30
        time.sleep(0.01)
    time.sleep(0.7)  # long enough for all of it, if it were read as it comes
    # What may come at once, what may come since, and what the pipe holds.
    most = 2 * at_once + 128_000 * (time.monotonic() - began)
    assert printed.written < min(most, 10_000_000)
    printed.gone.set()
    writing.join(20)
    assert printed.written == 10_000_000
