"""What a recorder asks of a card, in which order; on a make-believe one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from domains.inference.backends import memset_nodes, step_graphs
from domains.inference.backends.step_graphs import CudaRecorder

CARD = torch.device("cuda:1")
POOL, STREAM, DRIVER, HANDLE = "pool", "stream", "driver", 5
Told = list[Any]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told: Told = []

    class Graph:
        def __init__(self, keep_graph: bool = False) -> None:
            told.append(("made", keep_graph))

        def raw_cuda_graph(self) -> int:
            return HANDLE

        def instantiate(self) -> None:
            told.append("instantiated")

        def replay(self) -> None:
            told.append("replayed")

    @contextmanager
    def graph(graph: Graph, **how: Any) -> Iterator[None]:
        told.append((how["pool"], how["stream"]))
        yield
        told.append("recorded")

    @contextmanager
    def device(device: torch.device) -> Iterator[None]:
        told.append(device)
        yield
        told.append("left")

    for name, fake in (
        ("CUDAGraph", Graph),
        ("graph", graph),
        ("device", device),
        ("graph_pool_handle", lambda: POOL),
    ):
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(step_graphs, "work_stream", lambda _: STREAM)
    return told


def test_memory_is_set_by_kernels_before_it_is_instantiated_on_its_device(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memset_nodes, "cuda_driver", lambda: DRIVER)
    monkeypatch.setattr(memset_nodes, "as_kernels", lambda *given: told.append(given))
    replay, result = CudaRecorder(CARD).record(lambda: told.append("run") or "result")
    replay()
    assert result == "result"
    begun = [("made", True), CARD, (POOL, STREAM), "run", "recorded"]
    assert told == [*begun, (HANDLE, DRIVER), "instantiated", "left", "replayed"]


def test_what_the_driver_refuses_is_recorded_as_it_is(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*given: Any) -> None:
        raise RuntimeError("the CUDA driver says 1")

    monkeypatch.setattr(memset_nodes, "cuda_driver", lambda: DRIVER)
    monkeypatch.setattr(memset_nodes, "as_kernels", refused)
    with caplog.at_level(logging.WARNING, "deviceops.graphs"):
        CudaRecorder(CARD).record(lambda: None)
    assert told[-2:] == ["instantiated", "left"]
    assert caplog.messages == ["memory is not set by kernels: the CUDA driver says 1"]


def test_without_a_driver_to_ask_torch_instantiates(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memset_nodes, "cuda_driver", lambda: None)
    CudaRecorder(CARD).record(lambda: None)
    assert told == [("made", False), CARD, (POOL, STREAM), "recorded", "left"]
