"""What it costs to let another session go first, and to pause one: in denoising steps."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from bench.client import Generation, draw, next_event, random_moment, request_for
from bench.measure import Arm, Sample, interleave, median, percentile, ratio_of_medians
from bench.outcome import Goal, Outcome, summarise
from bench.work import work_of_round
from deviceops.v1 import event_pb2, processing_pb2, session_pb2
from tests.running import Client, start_server

_LIMIT_STEPS = 1.2
_STEPS = 20
_WARM_UPS = 1
_FIRST, _LAST = 3, _STEPS - 4
"""Between these steps a session is disturbed."""


@dataclass
class _Running:
    """A generation at a random moment of a random step, and seconds of its steps so far."""

    call: Generation
    session_id: str
    mean_step: float

    async def until(self, kind: str) -> event_pb2.SessionEvent:
        """Read on to its next event of that kind."""
        while True:
            event = await next_event(self.call)
            if event.WhichOneof("event") == kind:
                return event

    async def finish(self) -> None:
        """Read what is left."""
        while await self.call.read() is not grpc.aio.EOF:
            pass


async def _running(
    client: Client,
    number: int,
    moments: random.Random,
    priority: session_pb2.Priority.ValueType = session_pb2.PRIORITY_NORMAL,
) -> _Running:
    request = request_for(work_of_round(number, _STEPS))
    request.options.priority = priority
    call = client.generate(request)
    session_id = (await next_event(call)).session_id
    moment = await random_moment(call, moments, _FIRST, _LAST)
    return _Running(call, session_id, moment.mean_step)


@asynccontextmanager
async def _warm_server() -> AsyncIterator[Client]:
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:
            await draw(client, work_of_round(0, 2))
            yield client


async def yield_to_urgent(rounds: int) -> Outcome:
    """From the call of an urgent generation to its first phase, while a patient one runs."""
    moments = random.Random(0)
    async with _warm_server() as client:
        taken = [
            await _overtake(client, number, moments) for number in range(-_WARM_UPS, rounds)
        ][_WARM_UPS:]
    begun = [sample.seconds for sample in taken]
    steps = [sample.facts["mean_step"] for sample in taken]
    in_steps = [ours / step for ours, step in zip(begun, steps, strict=True)]
    return Outcome(
        "yield-to-urgent",
        "from the call of Generate with high priority at a random moment of a random step of "
        "one with low priority to its first phase, against that run's mean step",
        summarise("call to first phase", taken),
        summarise("one step", [Sample(step) for step in steps]),
        ratio_of_medians(begun, steps),
        Goal("p99 of time in steps", _LIMIT_STEPS, percentile(in_steps, 99), "steps"),
        work_of_round(0, _STEPS).settings() | {"rounds": rounds, "warm_ups": _WARM_UPS},
        {"in_steps": [round(value, 3) for value in in_steps]},
    )


async def _overtake(client: Client, number: int, moments: random.Random) -> Sample:
    """Facts: `mean_step`, and `back`, from the urgent one's end to the other's next step."""
    patient = await _running(client, number, moments, session_pb2.PRIORITY_LOW)
    request = request_for(work_of_round(number, 1))
    request.options.priority = session_pb2.PRIORITY_HIGH
    start = time.perf_counter()
    call = client.generate(request)
    urgent = _Running(call, "", 0.0)
    await urgent.until("phase_started")
    begun = time.perf_counter()
    await urgent.until("completed")
    over = time.perf_counter()
    await urgent.finish()
    await patient.until("yielded")
    await patient.until("step_finished")
    back = time.perf_counter()
    await patient.finish()
    return Sample(begun - start, {"mean_step": patient.mean_step, "back": back - over})


async def pause_and_resume(rounds: int) -> Outcome:
    """A generation that is paused at a random moment and resumed at once, against one that
    never was."""
    moments = random.Random(0)
    async with _warm_server() as client:

        async def paused(number: int) -> Sample:
            return await _pause(client, number, moments)

        async def whole(number: int) -> Sample:
            return await draw(client, work_of_round(number, _STEPS))

        samples = await interleave(
            [Arm("paused", paused), Arm("whole", whole)], rounds=rounds, warm_ups=_WARM_UPS
        )
    ours, theirs = samples["paused"], samples["whole"]
    in_steps = {
        name: [sample.facts[name] / sample.facts["mean_step"] for sample in ours]
        for name in ("stopped", "back")
    }
    return Outcome(
        "pause-and-resume",
        "a generation that is paused at a random moment of a random step and resumed as soon "
        "as it is, against one that is not; the goal is for PauseSession to the event of it",
        summarise("paused", ours),
        summarise("whole", theirs),
        ratio_of_medians(
            [sample.seconds for sample in ours], [sample.seconds for sample in theirs]
        ),
        Goal(
            "p99 of pausing in steps",
            _LIMIT_STEPS,
            percentile(in_steps["stopped"], 99),
            "steps",
        ),
        work_of_round(0, _STEPS).settings() | {"rounds": rounds, "warm_ups": _WARM_UPS},
        {f"{name}_in_steps_median": median(values) for name, values in in_steps.items()},
    )


async def _pause(client: Client, number: int, moments: random.Random) -> Sample:
    """Facts: `mean_step`; `stopped`, from the call to the event; `back`, from the resumption to
    the next step's end."""
    began = time.perf_counter()
    running = await _running(client, number, moments)
    start = time.perf_counter()
    await client.processing.PauseSession(
        processing_pb2.PauseSessionRequest(session_id=running.session_id),
        metadata=client.metadata,
    )
    await running.until("paused")
    stopped = time.perf_counter()
    await client.processing.ResumeSession(
        processing_pb2.ResumeSessionRequest(session_id=running.session_id),
        metadata=client.metadata,
    )
    await running.until("step_finished")
    back = time.perf_counter()
    await running.finish()
    facts = {"stopped": stopped - start, "back": back - stopped}
    return Sample(time.perf_counter() - began, facts | {"mean_step": running.mean_step})
