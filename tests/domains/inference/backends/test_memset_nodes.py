"""Which settings of memory become kernels, and in which order; on a make-believe driver.

What kernels then do is tested on a card (`tests/accelerator/test_memset_nodes.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from domains.inference.backends import memset_nodes
from domains.inference.backends.memset_nodes import as_kernels, cuda_driver

KERNEL, MEMSET = "kernel", "memset"


@dataclass(eq=False)
class Node:
    """Of a graph."""

    kind: str
    about: Any = None


@dataclass
class Setting:
    """What a memset node does."""

    dst: int = 4096
    elementSize: int = 1
    value: int = 0
    width: int = 64
    height: int = 1


class Driver:
    """Graphs as CUDA's driver has them.

    Args:
        edge_data: As with CUDA 13, edges have data.
        failing: What it refuses.
    """

    CUgraphNodeType = SimpleNamespace(CU_GRAPH_NODE_TYPE_MEMSET=MEMSET)
    CUDA_KERNEL_NODE_PARAMS = SimpleNamespace

    def __init__(self, *nodes: Node, edge_data: bool = True, failing: str = "") -> None:
        self.nodes = list(nodes)
        self.edges = list(itertools.pairwise(nodes))
        self.loaded = 0
        self._edge_data, self._failing = edge_data, failing

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name == self._failing:
            return lambda *_: (2,)
        return super().__getattribute__(name)

    def CUgraph(self, graph: int) -> int:
        return graph

    def cuGraphGetNodes(self, graph: int, count: int = 0) -> Any:
        return 0, self.nodes[:count], len(self.nodes)

    def cuGraphNodeGetType(self, node: Node) -> Any:
        return 0, node.kind

    def cuGraphMemsetNodeGetParams(self, node: Node) -> Any:
        return 0, node.about

    def cuGraphNodeGetDependencies(self, node: Node, count: int = 0) -> Any:
        return self._told([one for one, other in self.edges if other is node], count)

    def cuGraphNodeGetDependentNodes(self, node: Node, count: int = 0) -> Any:
        return self._told([other for one, other in self.edges if one is node], count)

    def _told(self, nodes: list[Node], count: int) -> Any:
        data = [[None] * count] if self._edge_data else []
        return 0, nodes[:count], *data, len(nodes)

    def cuCtxGetCurrent(self) -> Any:
        return 0, 7

    def cuModuleLoadData(self, code: bytes) -> Any:
        assert code.endswith(b"\0")
        self.loaded += 1
        return 0, "module"

    def cuModuleGetFunction(self, module: str, name: bytes) -> Any:
        return 0, name

    def cuGraphAddKernelNode(self, graph: int, before: Any, count: int, params: Any) -> Any:
        assert len(before) == count
        made = Node(KERNEL, params)
        self.nodes.append(made)
        self.edges += [(one, made) for one in before]
        return 0, made

    def cuGraphAddDependencies(self, graph: int, starts: Any, ends: Any, *rest: Any) -> Any:
        assert rest == ((None, len(ends)) if self._edge_data else (len(ends),))
        self.edges += list(zip(starts, ends, strict=True))
        return (0,)

    def cuGraphDestroyNode(self, node: Node) -> Any:
        self.nodes.remove(node)
        self.edges = [edge for edge in self.edges if node not in edge]
        return (0,)


def in_order(driver: Driver) -> list[Node]:
    """The nodes of a chain."""
    after = dict(driver.edges)
    assert len(after) == len(driver.edges) == len(driver.nodes) - 1
    (node,) = set(driver.nodes) - {end for _, end in driver.edges}
    found = [node]
    while (node := after.get(found[-1])) is not None:  # type: ignore[assignment]
        found.append(node)
    return found


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    memset_nodes._setter.cache_clear()


@pytest.mark.parametrize("edge_data", [True, False])
def test_a_kernel_takes_the_place_of_a_memset_node(edge_data: bool) -> None:
    before, after = Node(KERNEL), Node(KERNEL)
    setting = Setting(elementSize=2, value=0x1234, width=514)
    driver = Driver(before, Node(MEMSET, setting), after, edge_data=edge_data)
    assert as_kernels(1, driver) == 1
    first, made, last = in_order(driver)
    assert (first, last) == (before, after)
    assert made.kind == KERNEL
    assert made.about.func == b"set_words"
    assert made.about.kernelParams[0] == (4096, 0x12341234, 257)
    assert (made.about.gridDimX, made.about.blockDimX) == (2, 256)


def test_also_at_both_ends_and_side_by_side() -> None:
    nodes = [Node(MEMSET, Setting(value=value)) for value in (1, 2, 3)]
    driver = Driver(*nodes)
    assert as_kernels(1, driver) == 3
    values = [each.about.kernelParams[0][1] for each in in_order(driver)]
    assert values == [0x01010101, 0x02020202, 0x03030303]
    assert driver.loaded == 1


def test_a_negative_byte_is_a_byte() -> None:
    driver = Driver(Node(MEMSET, Setting(value=-2 & 0xFFFFFFFF)))
    assert as_kernels(1, driver) == 1
    assert driver.nodes[0].about.kernelParams[0][1] == 0xFEFEFEFE


@pytest.mark.parametrize(
    "setting",
    [
        Setting(width=(1 << 20) + 4),
        Setting(width=63),
        Setting(dst=4098),
        Setting(height=2),
        Setting(width=0),
    ],
    ids=["large", "no whole words", "between words", "rows", "nothing"],
)
def test_what_is_not_a_few_whole_words_stays(setting: Setting) -> None:
    driver = Driver(Node(KERNEL), Node(MEMSET, setting), Node(KERNEL))
    assert as_kernels(1, driver) == 0
    assert [each.kind for each in in_order(driver)] == [KERNEL, MEMSET, KERNEL]


def test_a_graph_without_nodes() -> None:
    assert as_kernels(1, Driver()) == 0


@pytest.mark.parametrize(
    "refused",
    [
        "cuGraphGetNodes",
        "cuModuleLoadData",
        "cuGraphAddKernelNode",
        "cuGraphAddDependencies",
        "cuGraphDestroyNode",
    ],
)
def test_a_refusal_leaves_memory_set_before_what_needs_it(refused: str) -> None:
    before, memset, after = Node(KERNEL), Node(MEMSET, Setting()), Node(KERNEL)
    driver = Driver(before, memset, after, failing=refused)
    with pytest.raises(RuntimeError, match="2"):
        as_kernels(1, driver)
    assert {(before, memset), (memset, after)} <= set(driver.edges)
    made = set(driver.nodes) - {before, memset, after}
    # What nothing waits for could set memory that is in use.
    assert all((each, after) in driver.edges for each in made)


@pytest.mark.parametrize("lacking", ["CUDA", "open graphs", "the library"])
def test_without_a_driver_to_ask_nothing_is_asked(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = type("CUDAGraph", (), {} if lacking == "open graphs" else {"raw_cuda_graph": None})
    monkeypatch.setattr(torch.version, "cuda", None if lacking == "CUDA" else "13.0")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    asked = []

    def load(name: str) -> Any:
        asked.append(name)
        raise ImportError(name)

    monkeypatch.setattr(memset_nodes, "import_module", load)
    assert cuda_driver() is None
    assert asked == (["cuda.bindings.driver"] if lacking == "the library" else [])
