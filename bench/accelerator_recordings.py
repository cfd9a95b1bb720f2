"""What recordings cost each other on a card: how long replays of long and short ones take as
more is recorded in the same process, and when that is given up again.

`python -m bench.accelerator_recordings [--ways NAME ...]` measures each way in a process of its
own, one after another: settings of CUDA and torch, and where replays are asked for. Lines of
JSON: microseconds of a replay in a row of them, and of the host for asking. What a long and a
short one lose tells a loss of each kernel from one of each replay; so do the pauses between
kernels and between replays that a profiler sees, in a way of its own.
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
from dataclasses import dataclass, field
from itertools import pairwise

import torch

_LONG, _SHORT = 2400, 600
_MORE = 6
_IN_A_ROW, _REPEATS = 20, 7


@dataclass(frozen=True)
class _Way:
    """`environment` is set for the process; replays are asked for in a stream of their own;
    recordings have one pool of memory; a profiler looks on, which takes time itself."""

    environment: Mapping[str, str] = field(default_factory=dict)
    own_stream: bool = False
    one_pool: bool = False
    profiled: bool = False


_WAYS: Mapping[str, _Way] = {
    "plain": _Way(),
    "profiled": _Way(profiled=True),
    "own stream": _Way(own_stream=True),
    "one pool": _Way(one_pool=True),
    "one connection": _Way({"CUDA_DEVICE_MAX_CONNECTIONS": "1"}),
    "32 connections": _Way({"CUDA_DEVICE_MAX_CONNECTIONS": "32"}),
    "longer queues": _Way({"CUDA_SCALE_LAUNCH_QUEUES": "4x"}),
    "eager modules": _Way({"CUDA_MODULE_LOADING": "EAGER"}),
    "segments grow": _Way({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
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


def _pauses(recorded: _Recorded, kernels: int) -> dict[str, float]:
    """Microseconds between two kernels of a replay, and between two replays."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    replays = 5
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(replays):
            recorded.replay()
        torch.cuda.synchronize()
    spans = sorted(
        (each.time_range.start, each.time_range.end)
        for each in found.events()
        if each.device_type == DeviceType.CUDA
    )
    pauses = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    ends = [number * kernels - 1 for number in range(1, replays)]
    between = [pauses[place] for place in ends if place < len(pauses)]
    return {
        "kernels_seen": len(spans),
        "within_us": round(statistics.mean(pauses), 3),
        "between_replays_us": round(statistics.median(between), 3),
    }


def measure(name: str, way: _Way) -> None:
    """Record one after another, and tell of the first two after each."""
    pool = torch.cuda.graph_pool_handle() if way.one_pool else None
    made = [_Recorded(_LONG, pool), _Recorded(_SHORT, pool)]

    def tell(state: str) -> None:
        line: dict[str, object] = {"way": name, "state": state}
        for length, each in zip(("long", "short"), made, strict=False):
            device, host = each.measured()
            line |= {f"{length}_us": round(device, 1), f"{length}_host_us": round(host, 1)}
        if way.profiled:
            line |= _pauses(made[0], _LONG)
        print(json.dumps(line), flush=True)

    with torch.cuda.stream(torch.cuda.Stream() if way.own_stream else None):
        tell("2 recorded")
        for count in range(3, 3 + _MORE):
            made.append(_Recorded(1, pool))
            tell(f"{count} recorded")
        del made[2:]
        gc.collect()
        torch.cuda.empty_cache()
        tell("all but 2 dropped")


def main(arguments: list[str]) -> int:
    """Measure the ways that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_recordings", description=__doc__
    )
    parser.add_argument("--ways", nargs="*", default=list(_WAYS), choices=_WAYS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is not None:
        with torch.no_grad():
            measure(given.one, _WAYS[given.one])
        return 0
    itself = [sys.executable, "-m", "bench.accelerator_recordings", "--one"]
    ended = []
    for way in given.ways:
        settings = [f"{name}={value}" for name, value in _WAYS[way].environment.items()]
        ended.append(subprocess.run(["env", *settings, *itself, way], check=False).returncode)
    return max(ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
