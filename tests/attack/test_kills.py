"""Kills at seeded moments: what is told, what is kept out of use, what comes back."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import grpc

from deviceops.v1 import device_pb2
from tests.attack.test_machine_faults import READY, until_state
from tests.e2e.errors import Refusal, refusal_of
from tests.e2e.test_faults import until_step, worker_of
from tests.running import Client, RunningServer, small_request, start_server

SEED = 2
DEMO = Path(__file__).parents[2] / "demo" / "models" / "emoji-xl"


async def killed_in_mid_work(
    server: RunningServer, client: Client, *after: float, **settings: object
) -> Refusal:
    """Start a generation, kill its worker so many moments after its first step, and again after
    the first one of each time that it starts over; how it ended."""
    call = client.generate(small_request(steps=150, **settings))

    async def rest() -> None:
        async for _ in call:
            pass

    async def attack() -> None:
        for moment in after:
            await until_step(call, [])
            await asyncio.sleep(moment)
            os.kill(worker_of(server.process.pid), signal.SIGKILL)
            await until_lost(call)
        await rest()

    return await refusal_of(attack())


async def until_lost(call: Any) -> None:
    """The stream has told of the loss: the work starts over, or it raises how that ended."""
    async for response in call:
        if response.event.HasField("retried"):
            return


def two_models(folder: Path) -> Path:
    """A root with the demo's model under two names."""
    for name in ("first", "second"):
        shutil.copytree(DEMO, folder / name, copy_function=os.link)
    return folder


async def restart(client: Client) -> None:
    """An operator restarts the device."""
    call = client.device.RestartWorker(
        device_pb2.RestartWorkerRequest(device_id="cpu:0"), metadata=client.metadata
    )
    async for _ in call:
        pass


async def test_a_model_whose_work_is_killed_is_barred_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    moments = random.Random(SEED)
    models = two_models(tmp_path / "models")
    flags = ("--model-root", str(models), "--default-model", "first")
    with start_server(tmp_path / "data", *flags) as server:
        async with server.client() as client:
            await until_state(client, READY)
            _, before = await client.draw(small_request(steps=2))

            for kills in (2, 1):  # what is lost once starts over by itself
                after = [moments.uniform(0, 0.5) for _ in range(kills)]
                refusal = await killed_in_mid_work(server, client, *after)
                assert refusal.code is grpc.StatusCode.INTERNAL
                assert refusal.reason == "WORKER_CRASH_REPEATED"
            barred = await refusal_of(client.draw(small_request(steps=2)))
            assert (barred.code, barred.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "MODEL_BARRED",
            )
            assert barred.metadata["model_id"] == "first"
            assert barred.retry_seconds is not None

            _, pictures = await client.draw(small_request(steps=2, model_id="second"))
            assert pictures
            await until_state(client, READY)

            await restart(client)
            _, after = await client.draw(small_request(steps=2))
            assert after == before


async def test_idle_workers_that_are_killed_leave_nothing(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    with start_server(tmp_path) as server:
        async with server.client() as client:
            for _ in range(3):
                await until_state(client, READY)
                await asyncio.sleep(moments.uniform(0, 0.3))
                worker = worker_of(server.process.pid)
                os.kill(worker, signal.SIGKILL)
                async with asyncio.timeout(120):
                    while os.path.exists(f"/proc/{worker}"):  # noqa: ASYNC110, ASYNC240
                        await asyncio.sleep(0.02)
            _, pictures = await client.draw(small_request(steps=1))
            assert pictures
        spool = [path for path in (server.data_dir / "spool").rglob("*") if path.is_file()]
        assert spool == []
