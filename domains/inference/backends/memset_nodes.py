"""Recorded settings of memory done by kernels.

Libraries set a few bytes of their scratch memory before they launch a kernel. Between kernels
such a node of a CUDA graph costs several microseconds, a kernel that does the same a few tenths
of one; and a graph of nothing but kernels in a row is launched in constant time (CUDA
Programming Guide, "CUDA Graphs").
"""

from __future__ import annotations

import ctypes
import functools
from importlib import import_module
from typing import Any, NamedTuple

import torch

# Larger ones are bound by memory, whoever sets it.
_MOST_BYTES = 1 << 20
_WORD, _WORD_OF_ONES = 4, 0xFFFFFFFF
_THREADS = 256
# Sets one word a thread; the driver compiles it for its card.
_PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry set_words(.param .u64 first, .param .u32 value, .param .u32 count)
{
  .reg .pred %outside;
  .reg .b32 %value, %count, %block, %width, %thread, %place;
  .reg .b64 %first, %address;
  ld.param.u64 %first, [first];
  ld.param.u32 %value, [value];
  ld.param.u32 %count, [count];
  mov.u32 %block, %ctaid.x;
  mov.u32 %width, %ntid.x;
  mov.u32 %thread, %tid.x;
  mad.lo.u32 %place, %block, %width, %thread;
  setp.ge.u32 %outside, %place, %count;
  @%outside bra DONE;
  cvta.to.global.u64 %address, %first;
  mad.wide.u32 %address, %place, 4, %address;
  st.global.u32 [%address], %value;
DONE:
  ret;
}
\0"""


def cuda_driver() -> Any:
    """What `as_kernels` asks the driver through: `cuda.bindings.driver`, which comes with
    torch on Linux; None without it, or where torch gives no graph out of its hands."""
    if torch.version.cuda is None or not hasattr(torch.cuda.CUDAGraph, "raw_cuda_graph"):
        return None
    try:
        return import_module("cuda.bindings.driver")
    except ImportError:
        return None


def as_kernels(graph: int, driver: Any) -> int:
    """Have a recorded graph set memory by kernels: in its order, with its numbers.

    Args:
        graph: A `CUgraph` that is not instantiated yet, of the context at work.
        driver: `cuda.bindings.driver`.

    Returns:
        How many nodes became kernels. Large ones, and what is not whole words in a row, stay
        as they are.

    Raises:
        RuntimeError: The driver refused; the graph still does what it did.
    """
    whole = driver.CUgraph(graph)
    count = _answer(driver.cuGraphGetNodes(whole))[-1]
    replaced = 0
    for node in _answer(driver.cuGraphGetNodes(whole, count))[0]:
        (kind,) = _answer(driver.cuGraphNodeGetType(node))
        if kind != driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_MEMSET:
            continue
        (setting,) = _answer(driver.cuGraphMemsetNodeGetParams(node))
        words = _words(setting)
        if words is not None:
            _replace(whole, node, words, driver)
            replaced += 1
    return replaced


class _Words(NamedTuple):
    first: int  # its address
    value: int
    number: int


def _words(setting: Any) -> _Words | None:
    """What a node sets; None if it is of another form."""
    size = setting.width * setting.elementSize
    if setting.height != 1 or not 0 < size <= _MOST_BYTES:
        return None
    first = int(setting.dst)
    if first % _WORD or size % _WORD:
        return None
    all_ones = (1 << 8 * setting.elementSize) - 1
    value = (setting.value & all_ones) * (_WORD_OF_ONES // all_ones)
    return _Words(first, value, size // _WORD)


def _replace(whole: Any, node: Any, words: _Words, driver: Any) -> None:
    # With CUDA 13 an edge has data as well: none of a memset node's has.
    before, *edges, _ = _neighbours(driver.cuGraphNodeGetDependencies, node)
    after = _neighbours(driver.cuGraphNodeGetDependentNodes, node)[0]
    kernel = driver.CUDA_KERNEL_NODE_PARAMS()
    kernel.func = _setter(int(_answer(driver.cuCtxGetCurrent())[0]), driver)
    kernel.gridDimX, kernel.gridDimY, kernel.gridDimZ = -(-words.number // _THREADS), 1, 1
    kernel.blockDimX, kernel.blockDimY, kernel.blockDimZ = _THREADS, 1, 1
    kernel.kernelParams = (tuple(words), (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32))
    (made,) = _answer(driver.cuGraphAddKernelNode(whole, before, len(before), kernel))
    try:
        if after:
            starts = [made] * len(after)
            no_data = [None] * len(edges)
            _answer(driver.cuGraphAddDependencies(whole, starts, after, *no_data, len(after)))
        _answer(driver.cuGraphDestroyNode(node))
    except RuntimeError:
        # Nothing would wait for it: it could set memory that is in use already.
        driver.cuGraphDestroyNode(made)
        raise


def _neighbours(question: Any, node: Any) -> tuple[Any, ...]:
    count = _answer(question(node))[-1]
    return _answer(question(node, count))


@functools.cache
def _setter(context: int, driver: Any) -> Any:
    """The kernel in a context, which keeps it as long as it lives."""
    (module,) = _answer(driver.cuModuleLoadData(_PTX))
    return _answer(driver.cuModuleGetFunction(module, b"set_words"))[0]


def _answer(told: tuple[Any, ...]) -> tuple[Any, ...]:
    error, *answer = told
    if error != 0:
        raise RuntimeError(f"the CUDA driver says {error}")
    return tuple(answer)
