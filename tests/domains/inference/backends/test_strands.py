"""Pieces of work that take turns, and what they have done for them."""

from __future__ import annotations

import threading

import pytest
import torch

from domains.inference.backends.strands import Strand

CPU = torch.device("cpu")
Numbers = Strand[int, int, list[int]]


def test_what_is_done_elsewhere_is_done_by_whoever_resumes() -> None:
    threads: list[threading.Thread] = []

    def act() -> int:
        threads.append(threading.current_thread())
        return len(threads)

    def work(strand: Numbers) -> list[int]:
        mine = threading.current_thread()
        found = [strand.elsewhere(act), strand.elsewhere(act), strand.ask(7)]
        found.append(strand.elsewhere(act))
        assert mine not in threads
        return found

    strand: Numbers = Strand(work, CPU)
    assert strand.resume() == 7, "what is done for it is no question to others"
    assert strand.resume(8) is None
    assert strand.ended is not None
    assert strand.ended.error is None
    assert strand.ended.result == [1, 2, 8, 3]
    assert set(threads) == {threading.current_thread()}


def test_what_goes_wrong_there_is_the_strands_own() -> None:
    def act() -> int:
        raise ValueError("not a number")

    def work(strand: Numbers) -> list[int]:
        with pytest.raises(ValueError, match="not a number"):
            strand.elsewhere(act)
        strand.elsewhere(act)
        raise AssertionError("it went on")

    strand: Numbers = Strand(work, CPU)
    assert strand.resume() is None
    assert strand.ended is not None
    assert isinstance(strand.ended.error, ValueError)


def test_time_there_is_the_strands_time() -> None:
    def act() -> int:
        threading.Event().wait(0.02)
        return 1

    strand: Numbers = Strand(lambda own: [own.elsewhere(act)], CPU)
    strand.resume()
    assert strand.now() >= 0.02
