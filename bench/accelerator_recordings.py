"""What a card loses between kernels: to a second stream of the same process, and to memory that
is set by nodes of a recording.

`python -m bench.accelerator_recordings [--ways NAME ...]` measures each way in a process of its
own: how long a recording of many short kernels takes, before and after each of some rounds in
which something is done beside it. Lines of JSON: microseconds of a replay and of the host for
asking, and where that jumped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch

from domains.inference.backends.memset_nodes import as_kernels, cuda_driver

_KERNELS, _ROUNDS = 1200, 10
# One of so many entries of a recording sets memory, as libraries do.
_ERASING_EVERY = 4
_IN_A_ROW, _REPEATS = 20, 5
_JUMP = 1.05


class _Recorded:
    """So many kernels in a row, each of a microsecond; some may set memory instead."""

    def __init__(
        self,
        kernels: int,
        stream: Any = None,
        *,
        erasing: bool = False,
        by_kernels: bool = False,
    ) -> None:
        self._numbers = torch.zeros(1 << 18, device="cuda")
        self._erased = torch.zeros(1 << 10, device="cuda")
        self._numbers.add_(1)
        graph = torch.cuda.CUDAGraph(True)
        with torch.cuda.graph(graph, stream=stream):
            for number in range(kernels):
                if erasing and number % _ERASING_EVERY == 0:
                    _erase(self._erased)
                else:
                    self._numbers.add_(1)
        if by_kernels:
            as_kernels(graph.raw_cuda_graph(), cuda_driver())
        graph.instantiate()
        self.replay: Callable[[], None] = graph.replay

    def measured(self) -> tuple[float, float]:
        """Microseconds of the device and of the host for one replay."""
        device, host = [], []
        for _ in range(_REPEATS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.replay()
            begin.record()
            asked = time.perf_counter()
            for _ in range(_IN_A_ROW):
                self.replay()
            host.append((time.perf_counter() - asked) * 1e6 / _IN_A_ROW)
            end.record()
            end.synchronize()
            device.append(begin.elapsed_time(end) * 1000 / _IN_A_ROW)
        return statistics.median(device), statistics.median(host)


def _erase(memory: torch.Tensor) -> None:
    """Set memory by the driver; torch takes a kernel for it."""
    driver = cuda_driver()
    stream = driver.CUstream(torch.cuda.current_stream().cuda_stream)
    (error,) = driver.cuMemsetD8Async(memory.data_ptr(), 0, memory.nbytes, stream)
    assert error == 0, error


class _Setting:
    """The stream of the work, others, and what is kept."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.numbers = torch.zeros(1 << 18, device="cuda")
        self.locked = torch.empty(1 << 18, pin_memory=True)
        self.other = torch.cuda.Stream()
        self.kept: list[object] = []
        self.recorded = _Recorded(1, stream)
        self.long = _Recorded(_KERNELS, stream)
        self.thread = ThreadPoolExecutor(1)


def _record_more(setting: _Setting) -> None:
    setting.kept.append(_Recorded(1, setting.stream))


def _elsewhere(act: Callable[[_Setting], object]) -> Callable[[_Setting], None]:
    def done(setting: _Setting) -> None:
        with torch.cuda.stream(setting.other):
            act(setting)

    return done


def _add(setting: _Setting) -> None:
    setting.numbers.add_(1)


_add_elsewhere = _elsewhere(_add)


def _add_in_a_thread(setting: _Setting) -> None:
    setting.thread.submit(_add_elsewhere, setting).result()


def _add_at_work(setting: _Setting) -> None:
    setting.long.replay()
    _add_elsewhere(setting)


_Beside = Callable[[_Setting], None]
# What is done in each round; whether work is in a stream of its own instead of the default one.
_WAYS: Mapping[str, tuple[_Beside, bool]] = {
    "recordings, default stream": (_record_more, False),
    "recordings, one stream": (_record_more, True),
    "a kernel elsewhere": (_add_elsewhere, True),
    "a kernel elsewhere, by another thread": (_add_in_a_thread, True),
    "a kernel elsewhere, beside a replay": (_add_at_work, True),
    "a replay elsewhere": (_elsewhere(lambda setting: setting.recorded.replay()), True),
    "a copy from the host elsewhere": (
        _elsewhere(lambda setting: setting.numbers.copy_(setting.locked, non_blocking=True)),
        True,
    ),
}
_NODES = "memory set by nodes and by kernels"


def _measure(name: str) -> None:
    act, own = _WAYS[name]
    stream = torch.cuda.Stream() if own else None
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        setting = _Setting(stream)
        for _ in range(_ROUNDS):  # more kernels than it takes
            _add(setting)
        found = [setting.long.measured()[0]]
        for _ in range(_ROUNDS):
            act(setting)
            torch.cuda.synchronize()
            found.append(setting.long.measured()[0])
    pairs = enumerate(pairwise(found), 1)
    jumped = [place for place, (one, other) in pairs if other > one * _JUMP]
    told = {"way": name, "first_us": round(found[0], 1), "last_us": round(found[-1], 1)}
    print(json.dumps(told | {"jumped_in_round": jumped}), flush=True)


def _measure_nodes() -> None:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for by_kernels in (False, True):
            each = _Recorded(_KERNELS, stream, erasing=True, by_kernels=by_kernels)
            device, host = each.measured()
            told = {"way": _NODES, "by_kernels": by_kernels, "replay_us": round(device, 1)}
            print(json.dumps(told | {"asking_us": round(host, 1)}), flush=True)


def main(arguments: list[str]) -> int:
    """Measure the ways that are named."""
    names = [*_WAYS, _NODES]
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_recordings", description=__doc__
    )
    parser.add_argument("--ways", nargs="*", default=names, choices=names)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is not None:
        with torch.no_grad():
            if given.one == _NODES:
                _measure_nodes()
            else:
                _measure(given.one)
        return 0
    itself = [sys.executable, "-m", "bench.accelerator_recordings", "--one"]
    return max(subprocess.run([*itself, way], check=False).returncode for way in given.ways)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
