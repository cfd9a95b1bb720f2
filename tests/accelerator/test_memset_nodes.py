"""Recorded settings of memory on a card, done by kernels: the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from domains.device.backends.work_stream import work_stream
from domains.inference.backends.memset_nodes import as_kernels, cuda_driver

pytestmark = pytest.mark.skipif(cuda_driver() is None, reason="there is no CUDA driver")
CARD = torch.device("cuda:0")


@pytest.fixture
def driver() -> Any:
    return cuda_driver()


def kinds(graph: Any, driver: Any) -> list[str]:
    whole = driver.CUgraph(graph.raw_cuda_graph())
    count = driver.cuGraphGetNodes(whole)[-1]
    nodes = driver.cuGraphGetNodes(whole, count)[1]
    return [driver.cuGraphNodeGetType(node)[1].name.rpartition("_")[2] for node in nodes]


# Bytes of an element, its value, how many from which byte on; whether a kernel does it, None
# where the driver may have it in pieces.
SETTINGS = {
    "bytes": (1, 0xA5, 4096, 0, True),
    "halves": (2, 0x1234, 300, 4, True),
    "words": (4, 0x80000001, 77, 8, True),
    "one word": (1, 0, 4, 12, True),
    "a large one": (4, 7, 1 << 19, 0, False),
    "no whole words": (1, 3, 7, 0, None),
    "between words": (1, 3, 8, 2, None),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_memory_is_set_to_the_same(name: str, driver: Any) -> None:
    size, value, count, first, by_kernel = SETTINGS[name]
    memory = torch.empty(1 << 20, dtype=torch.int32, device=CARD)
    before, after = memory.clone(), memory.clone()
    set_memory = {
        1: driver.cuMemsetD8Async,
        2: driver.cuMemsetD16Async,
        4: driver.cuMemsetD32Async,
    }

    def run() -> None:
        # What it sets is read and written on both sides of it.
        memory.fill_(-2)
        before.copy_(memory)
        stream = driver.CUstream(torch.cuda.current_stream().cuda_stream)
        (error,) = set_memory[size](memory.data_ptr() + first, value, count, stream)
        assert error == 0
        torch.add(memory, 1, out=after)

    graph = torch.cuda.CUDAGraph(True)
    with torch.cuda.graph(graph, stream=work_stream(CARD)):
        run()
    nodes = kinds(graph, driver).count("MEMSET")
    replaced = as_kernels(graph.raw_cuda_graph(), driver)
    assert kinds(graph, driver).count("MEMSET") == nodes - replaced
    if by_kernel is not None:
        assert (nodes, replaced) == (1, by_kernel)
    graph.instantiate()
    for tensor in (memory, before, after):
        tensor.zero_()
    torch.cuda.synchronize()
    graph.replay()
    torch.cuda.synchronize()
    recorded = before.clone(), after.clone(), memory.clone()
    with torch.cuda.stream(work_stream(CARD)):
        run()
    torch.cuda.synchronize()
    assert all(map(torch.equal, recorded, (before, after, memory)))
