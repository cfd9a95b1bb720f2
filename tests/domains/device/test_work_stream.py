"""All work of a process on a card is in one stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from domains.device.backends import work_stream
from domains.device.backends.work_stream import settle_stream
from domains.inference.backends.strands import Strand

CARD = torch.device("cuda:0")


class Backend:
    """A backend whose streams can be recorded; each thread has a stream at work."""

    CUDAGraph = object

    def __init__(self) -> None:
        self.made: list[torch.device] = []
        self._of_thread = threading.local()

    @property
    def at_work(self) -> Any:
        return getattr(self._of_thread, "stream", None)

    def Stream(self, device: torch.device) -> Any:
        self.made.append(device)
        return object()

    def set_stream(self, stream: Any) -> None:
        self._of_thread.stream = stream


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    backend = Backend()
    monkeypatch.setattr(work_stream, "backend_of", lambda _: backend)
    work_stream.work_stream.cache_clear()
    yield backend
    work_stream.work_stream.cache_clear()


def test_threads_share_the_stream_and_settle_each_for_itself(backend: Backend) -> None:
    settle_stream(CARD)
    mine, theirs = backend.at_work, []

    def other() -> None:
        theirs.append(backend.at_work)
        settle_stream(CARD)
        theirs.append(backend.at_work)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert mine is not None
    assert theirs == [None, mine]
    assert backend.made == [CARD]


def test_strands_are_in_it(backend: Backend) -> None:
    settle_stream(CARD)
    strand: Strand[Any, Any, Any] = Strand(lambda _: backend.at_work, torch.device("cpu"))
    assert strand.resume() is None
    assert strand.ended is not None
    assert strand.ended.result is not None
    # The make-believe backend has one for the processor too.
    assert backend.made == [CARD, torch.device("cpu")]


def test_where_nothing_is_recorded_the_default_stream_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle_stream(torch.device("cpu"))  # there is no other
    monkeypatch.setattr(work_stream, "backend_of", lambda _: object())  # cannot set one either
    work_stream.work_stream.cache_clear()
    settle_stream(torch.device("xpu:0"))
    work_stream.work_stream.cache_clear()
