"""A graphics card that breaks, fills up or loses the process that works on it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from demo.measure.sd1 import sd1_pipeline
from domains.device.types import Device, DeviceKind
from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.inference.jobs import GenerationJob
from domains.inference.types import GuidanceSettings, Scheduler, SchedulerSettings
from domains.session.types import StepFinished
from domains.values import ByteFigure, ModelPlace
from server.worker.front.pool import WorkerPool
from server.worker.front.timing import WorkerTiming
from tests.fakes.breaking_worker import HELD_BYTES
from tests.running import Client, alive, launch, small_request, wait_for_address
from tests.server.worker.workers import Outcome, outcome, ready, running, work

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.version.hip is not None,
    reason="needs an NVIDIA graphics card",
)

CARD = Device(
    "cuda:0", DeviceKind.CUDA, "Card", "NVIDIA", "cuda:0", ByteFigure.unknown("a test")
)
COMMAND = (sys.executable, "-m", "tests.fakes.breaking_worker")
MARGIN_BYTES = 64 << 20  # what the driver keeps for itself varies
GONE_SECONDS = 10.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's small SD 1.x model as a folder."""
    path = tmp_path_factory.mktemp("models") / "emoji-sd1"
    sd1_pipeline().save_pretrained(path)
    return path


def job(model: Path, prompt: str = "red apple on a blue background") -> GenerationJob:
    """Two pictures, or harm."""
    made = work(
        prompt,
        height=256,
        guidance=GuidanceSettings(6.0),
        scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
    )
    return replace(made, place=ModelPlace.of(model))


async def drawn(pool: WorkerPool, model: Path) -> list[str]:
    """The hashes of what it draws."""
    result = await outcome(pool, job(model), device_id=CARD.device_id)
    assert result.error is None, result.error
    for image in result.images:
        with Image.open(image.path) as picture:
            assert picture.size == (256, 256)
    return [hashlib.sha256(image.path.read_bytes()).hexdigest() for image in result.images]


async def harmed(pool: WorkerPool, model: Path, prompt: str) -> Outcome:
    """What comes of a prompt that breaks something."""
    return await outcome(pool, job(model, prompt), device_id=CARD.device_id)


def used_bytes() -> int:
    """Memory of the card that anybody uses, as its driver says."""
    import pynvml  # is there with a card only

    pynvml.nvmlInit()
    try:
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        return int(pynvml.nvmlDeviceGetMemoryInfo(card).used)
    finally:
        pynvml.nvmlShutdown()


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait for something that a driver brings about."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.1)


async def test_a_device_broken_by_a_kernel_is_usable_with_the_next_worker(
    tmp_path: Path, model: Path
) -> None:
    async with running(tmp_path, COMMAND, timing=WorkerTiming(), devices=(CARD,)) as pool:
        first = (await ready(pool, CARD.device_id)).process_id
        before = await drawn(pool, model)
        error = (await harmed(pool, model, "fail an assertion")).raised(Unavailable)
        assert error.reason is Reason.DEVICE_LOST
        assert await drawn(pool, model) == before
        assert pool.status(CARD.device_id).process_id != first


async def test_memory_that_runs_out_is_typed_and_the_next_smaller_work_succeeds(
    tmp_path: Path, model: Path
) -> None:
    async with running(tmp_path, COMMAND, timing=WorkerTiming(), devices=(CARD,)) as pool:
        first = (await ready(pool, CARD.device_id)).process_id
        before = await drawn(pool, model)
        used = used_bytes()
        error = (await harmed(pool, model, "fill memory")).raised(ResourceExhausted)
        assert error.reason is Reason.DEVICE_OUT_OF_MEMORY
        assert int(error.metadata["needed_bytes"]) > int(error.metadata["free_bytes"])
        assert used_bytes() < used + MARGIN_BYTES
        assert await drawn(pool, model) == before
        assert pool.status(CARD.device_id).process_id == first


async def test_a_killed_worker_gives_its_memory_back(tmp_path: Path, model: Path) -> None:
    unused = used_bytes()
    async with running(tmp_path, COMMAND, timing=WorkerTiming(), devices=(CARD,)) as pool:
        await ready(pool, CARD.device_id)
        used: list[int] = []

        def kill(event: object) -> None:
            if isinstance(event, StepFinished) and not used:
                used.append(used_bytes())
                os.kill(pool.status(CARD.device_id).process_id, signal.SIGKILL)

        result = await outcome(
            pool, job(model, "hold memory"), device_id=CARD.device_id, on_event=kill
        )
        assert result.raised(Unavailable).reason is Reason.WORKER_LOST
        assert used[0] > unused + HELD_BYTES
        await until(lambda: used_bytes() < used[0] - HELD_BYTES, GONE_SECONDS)
        assert len(await drawn(pool, model)) == 2


async def test_a_killed_front_leaves_nothing_on_the_card(tmp_path: Path, model: Path) -> None:
    unused = used_bytes()
    config = tmp_path / "config.toml"
    config.write_text(f'default_device = "cuda:0"\nmodel_roots = ["{model.parent}"]\n', "utf-8")
    data_dir = tmp_path / "data"
    server = launch(data_dir, "--config", str(config))
    try:
        address = wait_for_address(server, data_dir)
        token = (data_dir / "runtime" / "token").read_text().strip()
        async with Client(address, token) as client:
            async for response in client.generate(small_request(steps=100)):
                if response.event.HasField("step_finished"):
                    break
            assert response.event.HasField("step_finished")
            assert used_bytes() > unused + MARGIN_BYTES
    finally:
        server.kill()
        server.wait()
    await until(lambda: used_bytes() < unused + MARGIN_BYTES, GONE_SECONDS)
    assert not alive(server.pid)
