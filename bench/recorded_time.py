"""How long something takes on a card when it is recorded."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch


def recorded_us(runs: Sequence[Callable[[], object]], repeats: int = 7) -> float:
    """Microseconds of one of `runs`, all recorded one after another."""
    for run in runs[:2]:
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / len(runs))
    return statistics.median(times[1:])
