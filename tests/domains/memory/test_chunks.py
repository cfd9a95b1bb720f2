"""Chunks worked on in two threads: each once, in order begun, stopped at the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from domains.errors import Cancelled
from domains.memory.backends import chunks
from domains.memory.backends.chunks import Guard, in_two_threads
from tests.scarcity import NoThreads

CHUNK = 10
LENGTH = 10 * CHUNK + 3
MANY = 200


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(chunks, "SPLIT_BYTES", 2)
    yield
    assert not [one for one in threading.enumerate() if one.name.startswith("chunks")]


class Work:
    """Notes every chunk and the thread that had it; both threads take part."""

    def __init__(self, wrong: int | None = None) -> None:
        self.begun: list[tuple[int, int]] = []
        self.threads: set[str] = set()
        self.wrong = wrong
        self._lock = threading.Lock()
        self._together = threading.Barrier(2)

    def __call__(self, offset: int, size: int) -> bool:
        with self._lock:
            first = len(self.begun) < 2
            self.begun.append((offset, size))
            self.threads.add(threading.current_thread().name)
        if first:
            self._together.wait(60)
        else:
            time.sleep(0.001)
        return self.wrong is None or not offset <= self.wrong < offset + size


def silent(check_stop: object = lambda: None) -> Guard:
    return Guard(lambda _done: None, check_stop)  # type: ignore[arg-type]


def test_each_chunk_is_worked_on_once_by_two_threads() -> None:
    work = Work()
    told: list[int] = []

    assert in_two_threads(work, LENGTH, Guard(told.append, lambda: None)) == LENGTH

    assert sorted(work.begun) == list(chunks.chunks(LENGTH, CHUNK))
    assert len(work.threads) == 2
    assert told == sorted(told)
    assert told[-1] == LENGTH
    assert told.count(LENGTH) == 1


def test_few_bytes_are_two_halves_and_very_few_are_one_chunk() -> None:
    halves, whole = Work(), Work()
    whole._together = threading.Barrier(1)

    assert in_two_threads(halves, 7, silent()) == 7
    assert in_two_threads(whole, 1, silent()) == 1
    assert in_two_threads(whole, 0, silent()) == 0

    assert sorted(halves.begun) == [(0, 4), (4, 3)]
    assert whole.begun == [(0, 1)]


@pytest.mark.parametrize("wrong", [0, CHUNK, 5 * CHUNK + 3, LENGTH - 1])
def test_the_first_chunk_that_is_not_well_is_told(wrong: int) -> None:
    told: list[int] = []

    found = in_two_threads(Work(wrong), LENGTH, Guard(told.append, lambda: None))

    assert found == wrong // CHUNK * CHUNK
    assert LENGTH not in told


def test_a_chunk_that_is_not_well_ends_it() -> None:
    work = Work(wrong=0)

    assert in_two_threads(work, MANY * CHUNK, silent()) == 0

    assert len(work.begun) < MANY


def test_a_stop_ends_both_threads() -> None:
    work = Work()

    def check_stop() -> None:
        raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        in_two_threads(work, MANY * CHUNK, silent(check_stop))

    assert len(work.begun) < MANY


def test_an_error_in_either_thread_ends_it_and_is_raised() -> None:
    for broken in ("MainThread", "chunks_0"):
        work = Work()

        def act(offset: int, size: int, work: Work = work, broken: str = broken) -> bool:
            work(offset, size)
            if threading.current_thread().name == broken:
                raise OSError("gone")
            return True

        with pytest.raises(OSError, match="gone"):
            in_two_threads(act, MANY * CHUNK, silent())
        assert len(work.begun) < MANY


def test_one_thread_does_it_alone_when_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []

    def act(offset: int, size: int) -> bool:
        seen.append((offset, size))
        return True

    refused = NoThreads(monkeypatch)
    assert in_two_threads(act, LENGTH, Guard(lambda done: None, lambda: None)) == LENGTH
    assert refused.refused == 1
    assert sum(size for _, size in seen) == LENGTH
