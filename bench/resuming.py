"""From the start of the next server after a kill to the first step of the work it takes up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import grpc
import grpc.aio

from bench.measure import Arm, Sample, interleave, median, ratio_of_medians, seconds_of
from bench.outcome import Goal
from bench.sections import Section
from bench.served import models_and_data, served, tiny
from deviceops.v1 import inference_pb2, processing_pb2, session_pb2
from tests.running import Client

NAME = "resume"
_AGAIN_SECONDS = 0.02
_STEPS = 150
_STEPS_BEFORE = 5
# A session that is taken up has a plain start's work to do, and its row to read.
_MOST = 1.2


def _asked() -> inference_pb2.GenerateRequest:
    request = tiny(1, edge=256, steps=_STEPS)
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    return request


async def _until_step(call: grpc.aio.UnaryStreamCall, count: int = 1) -> str:
    """Read on until so many steps are done; the session."""
    async for answer in call:
        count -= answer.event.HasField("step_finished")
        if count <= 0:
            return str(answer.event.session_id)
    raise AssertionError("it ended before")


async def _new_work(client: Client) -> None:
    """Until a step of work that is asked for as soon as the server takes it."""
    while True:
        try:
            await _until_step(client.generate(_asked()))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(_AGAIN_SECONDS)  # its device is being looked for
        else:
            return


async def _work_before(client: Client, session_id: str) -> None:
    request = processing_pb2.WatchSessionRequest(session_id=session_id)
    request.delivery.omit_image_data = True
    await _until_step(client.processing.WatchSession(request, metadata=client.metadata))


async def _killed_at_work(models: Path, data: Path) -> str:
    """A session that was at work when its server was killed."""
    with served(models, data) as running:
        async with running.client() as client:
            call = client.generate(_asked())
            session_id = await _until_step(call, _STEPS_BEFORE)
        running.process.kill()
        running.process.wait()
    return session_id


async def _start(models: Path, data: Path, session_id: str) -> Sample:
    """Seconds to the first step: of that session, or of new work if there is none.

    Facts: `address`, until the server's address was known.
    """
    begun = time.perf_counter()
    with served(models, data) as running:
        found = time.perf_counter() - begun
        async with running.client() as client:
            if session_id:
                await _work_before(client, session_id)
            else:
                await _new_work(client)
            seconds = time.perf_counter() - begun
        with contextlib.suppress(ProcessLookupError):
            running.process.kill()
        running.process.wait()
    return Sample(seconds, {"address": found})


async def _measure(rounds: int) -> Section:
    with models_and_data() as (models, folder):

        async def resumed(number: int) -> Sample:
            data = folder / f"resumed-{number}" / "data"
            return await _start(models, data, await _killed_at_work(models, data))

        async def plain(number: int) -> Sample:
            data = folder / f"plain-{number}" / "data"
            await _killed_at_work(models, data)  # the same folder but for the session
            for file in data.glob("*.sqlite*"):
                file.unlink()
            return await _start(models, data, "")

        samples = await interleave(
            [Arm("resumed", resumed), Arm("plain", plain)], rounds=rounds, warm_ups=0
        )
    ours, theirs = seconds_of(samples["resumed"]), seconds_of(samples["plain"])
    ratio = ratio_of_medians(ours, theirs)
    rows = [
        (name, f"{median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}")
        for name, values in (
            ("the session that was at work at the kill", ours),
            ("a new session, on a server without any before", theirs),
        )
    ]
    return Section(
        NAME,
        "Seconds from the start of a server to the first step of work,"
        f" {rounds} rounds in turn.",
        [("first step of", "median", "all"), *rows],
        [Goal("times as long", _MOST, ratio.value, "x", ratio.low, ratio.high)],
    )


def measure(rounds: int) -> Section:
    """Kill servers at work, and start the next ones; so often."""
    return asyncio.run(_measure(rounds))
