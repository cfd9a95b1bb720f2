"""How soon a generation's first event comes, against the least a call can take."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from grpc_health.v1 import (  # type: ignore[import-untyped]
    health_pb2,
    health_pb2_grpc,
)

from bench.client import draw, first_event, kept_busy
from bench.measure import Arm, Sample, interleave, percentile, ratio_of_medians, seconds_of
from bench.outcome import Goal, Outcome, summarise
from bench.work import work_of_round
from tests.running import Client, start_server

_LIMIT_MS = 20.0
_WARM_UPS = 3


async def first_event_latency(rounds: int) -> list[Outcome]:
    """Two outcomes: with an idle device, and while another generation runs on it."""
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:
            # The model is loaded before anything is measured.
            await draw(client, work_of_round(0, 2))
            return [await _measure(client, rounds, busy=busy) for busy in (False, True)]


async def _measure(client: Client, rounds: int, *, busy: bool) -> Outcome:
    health = health_pb2_grpc.HealthStub(client.channel)
    moments = random.Random(0)

    async def generation(number: int) -> Sample:
        # At any moment of a step, not always just after one.
        await asyncio.sleep(moments.uniform(0, 0.05))
        return await first_event(client, work_of_round(number, 2))

    async def check(number: int) -> Sample:
        await asyncio.sleep(moments.uniform(0, 0.05))
        start = time.perf_counter()
        await health.Check(health_pb2.HealthCheckRequest())
        return Sample(time.perf_counter() - start)

    async with kept_busy(client) if busy else nullcontext():
        samples = await interleave(
            [Arm("accepted", generation), Arm("health", check)],
            rounds=rounds,
            warm_ups=_WARM_UPS,
        )
    ours, theirs = samples["accepted"], samples["health"]
    state = "busy" if busy else "idle"
    return Outcome(
        f"first-event-{state}",
        f"from the call of Generate to its first event on an {state} device, against a "
        "health check on the same channel"
        if not busy
        else "the same while another generation runs",
        summarise("accepted", ours),
        summarise("health check", theirs),
        ratio_of_medians(seconds_of(ours), seconds_of(theirs)),
        Goal("p99", _LIMIT_MS, percentile(seconds_of(ours), 99) * 1000, "ms"),
        work_of_round(0, 2).settings() | {"rounds": rounds, "warm_ups": _WARM_UPS},
        _in_ms("accepted", ours) | _in_ms("health", theirs),
    )


def _in_ms(arm: str, samples: Sequence[Sample]) -> dict[str, float]:
    values = seconds_of(samples)
    return {
        f"{arm}_p{percent}_ms": round(percentile(values, percent) * 1000, 3)
        for percent in (50, 90, 99, 100)
    }
