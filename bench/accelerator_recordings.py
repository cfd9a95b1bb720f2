"""What recordings cost each other on a card: how long replays of long and short ones take as
more is recorded in the same process, and when that is given up again.

`python -m bench.accelerator_recordings [--ways NAME ...]` measures each way in a process of its
own, one after another: settings of CUDA and torch, and where replays are asked for. Lines of
JSON: microseconds of a replay in a row of them, and of the host for asking. What a long and a
short one lose tells a loss of each kernel from one of each replay.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import torch

_LONG, _SHORT = 2400, 600
_MORE = 6
_IN_A_ROW, _REPEATS = 20, 7
# What the process has in its environment, and whether replays have a stream of their own, and
# recordings a pool of memory in common.
_WAYS: Mapping[str, tuple[dict[str, str], bool, bool]] = {
    "plain": ({}, False, False),
    "own stream": ({}, True, False),
    "one pool": ({}, False, True),
    "one connection": ({"CUDA_DEVICE_MAX_CONNECTIONS": "1"}, False, False),
    "32 connections": ({"CUDA_DEVICE_MAX_CONNECTIONS": "32"}, False, False),
    "longer queues": ({"CUDA_SCALE_LAUNCH_QUEUES": "4x"}, False, False),
    "eager modules": ({"CUDA_MODULE_LOADING": "EAGER"}, False, False),
    "segments grow": ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, False, False),
}


class _Recorded:
    """So many kernels in a row, each of a few microseconds."""

    def __init__(self, kernels: int, pool: object) -> None:
        self._numbers = torch.zeros(1 << 18, device="cuda")
        self._graph = torch.cuda.CUDAGraph()
        self._numbers.add_(1)
        with torch.cuda.graph(self._graph, pool=pool):
            for _ in range(kernels):
                self._numbers.add_(1)
        self.replay: Callable[[], None] = self._graph.replay

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


def measure(way: str, *, own_stream: bool, one_pool: bool) -> None:
    """Record one after another, and tell of the first two after each."""
    pool = torch.cuda.graph_pool_handle() if one_pool else None
    made = [_Recorded(_LONG, pool), _Recorded(_SHORT, pool)]

    def tell(state: str) -> None:
        line: dict[str, object] = {"way": way, "state": state}
        for name, each in zip(("long", "short"), made, strict=False):
            device, host = each.measured()
            line |= {f"{name}_us": round(device, 1), f"{name}_host_us": round(host, 1)}
        print(json.dumps(line), flush=True)

    def told() -> None:
        tell("2 recorded")
        for count in range(3, 3 + _MORE):
            made.append(_Recorded(1, pool))
            tell(f"{count} recorded")
        del made[2:]
        gc.collect()
        torch.cuda.empty_cache()
        tell("all but 2 dropped")

    if own_stream:
        with torch.cuda.stream(torch.cuda.Stream()):
            told()
    else:
        told()


def main(arguments: list[str]) -> int:
    """Measure the ways that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_recordings", description=__doc__
    )
    parser.add_argument("--ways", nargs="*", default=list(_WAYS), choices=_WAYS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is not None:
        _, own_stream, one_pool = _WAYS[given.one]
        with torch.no_grad():
            measure(given.one, own_stream=own_stream, one_pool=one_pool)
        return 0
    itself = [sys.executable, "-m", "bench.accelerator_recordings", "--one"]
    ended = []
    for way in given.ways:
        settings = [f"{name}={value}" for name, value in _WAYS[way][0].items()]
        ended.append(subprocess.run(["env", *settings, *itself, way], check=False).returncode)
    return max(ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
