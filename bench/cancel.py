"""How long a device is still busy with work that was cancelled, in denoising steps."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from pathlib import Path

import grpc.aio

from bench.client import Generation, draw, next_event, random_moment, request_for
from bench.measure import Sample, percentile, ratio_of_medians
from bench.outcome import Goal, Outcome, summarise
from bench.work import work_of_round
from deviceops.v1 import processing_pb2
from tests.running import Client, start_server

_LIMIT_STEPS = 1.2
_STEPS = 20
_WARM_UPS = 1


async def cancel_to_idle(rounds: int) -> Outcome:
    """From CancelSession to the first work of the session queued behind."""
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:
            await draw(client, work_of_round(0, 2))
            moments = random.Random(0)
            taken = [
                await _cancel_one(client, number, moments)
                for number in range(-_WARM_UPS, rounds)
            ][_WARM_UPS:]
    idle = [sample.seconds for sample in taken]
    steps = [sample.facts["mean_step"] for sample in taken]
    in_steps = [ours / step for ours, step in zip(idle, steps, strict=True)]
    return Outcome(
        "cancel-to-idle",
        "from CancelSession at a random moment of a random step to the first "
        "phase of the session queued behind, against that run's mean step",
        summarise("cancel to next work", taken),
        summarise("one step", [Sample(step) for step in steps]),
        ratio_of_medians(idle, steps),
        Goal("p99 of time in steps", _LIMIT_STEPS, percentile(in_steps, 99), "steps"),
        work_of_round(0, _STEPS).settings() | {"rounds": rounds, "warm_ups": _WARM_UPS},
        {"in_steps": [round(value, 3) for value in in_steps]},
    )


async def _cancel_one(client: Client, number: int, moments: random.Random) -> Sample:
    """Facts count from the cancel: `answered`, `cancelled` (the session's last event)."""
    victim = client.generate(request_for(work_of_round(number, _STEPS)))
    session_id = (await next_event(victim)).session_id
    heir = client.generate(request_for(work_of_round(number, 1)))
    queued = await next_event(heir)
    assert queued.accepted.queue_position == 1, "nothing was running"
    mean_step, part = await random_moment(victim, moments, 3, _STEPS - 4)
    last = asyncio.create_task(_last_event(victim))
    first = asyncio.create_task(first_phase(heir))
    start = time.perf_counter()
    await client.processing.CancelSession(
        processing_pb2.CancelSessionRequest(session_id=session_id),
        metadata=client.metadata,
    )
    answered = time.perf_counter()
    cancelled, idle = await asyncio.gather(last, first)
    while await heir.read() is not grpc.aio.EOF:
        pass
    return Sample(
        idle - start,
        {
            "mean_step": mean_step,
            "answered": answered - start,
            "cancelled": cancelled - start,
            "part_of_step_over": part,
        },
    )


async def _last_event(call: Generation) -> float:
    """When the cancelled session's last event came."""
    while True:
        event = await next_event(call)
        if event.WhichOneof("event") == "cancelled":
            return time.perf_counter()


async def first_phase(call: Generation) -> float:
    """When the waiting session's work began."""
    while True:
        event = await next_event(call)
        if event.WhichOneof("event") == "phase_started":
            return time.perf_counter()
