"""How long calls about memory take while the machine draws, against an idle server."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from bench.client import draw, kept_busy
from bench.measure import Sample, percentile, ratio_of_medians, seconds_of
from bench.outcome import Goal, Outcome, summarise
from bench.work import work_of_round
from deviceops.v1 import memory_pb2
from tests.running import Client, start_server

# While every core draws, a call waits for a core: tens of milliseconds, never a step.
_LIMIT_MS = 50.0


async def memory_calls(rounds: int) -> list[Outcome]:
    """GetMemoryStatus and GetMemoryPressure, in blocks: idle, busy, busy, idle."""
    taken: dict[tuple[str, bool], list[Sample]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:
            await draw(client, work_of_round(0, 2))
            for busy in (False, True, True, False):
                async with kept_busy(client) if busy else nullcontext():
                    for name, samples in (await _block(client, max(rounds // 2, 1))).items():
                        taken.setdefault((name, busy), []).extend(samples)
    return [_outcome(name, taken[name, True], taken[name, False]) for name in _CALLS]


async def _block(client: Client, rounds: int) -> dict[str, list[Sample]]:
    moments = random.Random(0)
    found: dict[str, list[Sample]] = {name: [] for name in _CALLS}
    for _ in range(rounds):
        for name, call in _CALLS.items():
            # At any moment of a step, not always just after one.
            await asyncio.sleep(moments.uniform(0, 0.03))
            start = time.perf_counter()
            await call(client)
            found[name].append(Sample(time.perf_counter() - start))
    return found


async def _status(client: Client) -> object:
    request = memory_pb2.GetMemoryStatusRequest()
    return await client.memory.GetMemoryStatus(request, metadata=client.metadata)


async def _pressure(client: Client) -> object:
    request = memory_pb2.GetMemoryPressureRequest()
    return await client.memory.GetMemoryPressure(request, metadata=client.metadata)


_CALLS = {"status": _status, "pressure": _pressure}


def _outcome(name: str, busy: list[Sample], idle: list[Sample]) -> Outcome:
    ours, theirs = seconds_of(busy), seconds_of(idle)
    in_ms = {
        f"{arm}_p{percent}_ms": round(percentile(values, percent) * 1000, 3)
        for arm, values in (("busy", ours), ("idle", theirs))
        for percent in (50, 99, 100)
    }
    p99 = percentile(ours, 99)
    return Outcome(
        f"memory-{name}-busy",
        f"a call of memory's {name} while a generation runs, against an idle server",
        summarise("generating", busy),
        summarise("idle", idle),
        ratio_of_medians(ours, theirs),
        Goal("p99", _LIMIT_MS, p99 * 1000, "ms"),
        {"calls": len(busy)},
        in_ms | {"p99_ratio": round(p99 / percentile(theirs, 99), 3)},
    )
