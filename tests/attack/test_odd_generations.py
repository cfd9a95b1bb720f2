"""Generations as odd as a client can write them, by the hundred: each is refused by its fields
or drawn, what validation says is what happens, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc.aio
import pytest

from deviceops.v1 import inference_pb2, processing_pb2
from tests.drawings import devices_ready
from tests.e2e.conftest import client
from tests.e2e.odd_trials import plain_pictures, said_again, tried
from tests.fakes.tiny_models import (
    save_control_net,
    save_embedding,
    save_lora,
    save_refiner,
    save_sd1,
    save_sdxl,
)
from tests.odd_generations import OddGenerations
from tests.running import Client, RunningServer, start_server

__all__ = ["client"]

CASES = 60
# A plain one in between each so many.
OFTEN = 5
ODD = OddGenerations(
    {
        "GenerationSettings.model_id": (
            "tiny",
            "tiny",
            "older",
            "",
            "polish",
            "nobody",
            "../x",
        ),
        "GenerationSettings.vae_model_id": ("ink", ""),
        "GenerationSettings.embedding_model_ids": ("far", "far", "ink"),
        "LoraWeight.model_id": ("ink", "ink", "../x"),
        "ControlNetGuidance.model_id": ("lines", "lines", "tiny"),
        "Refiner.model_id": ("polish", "tiny", "older"),
    }
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    model = save_sdxl(folder / "tiny")
    save_sd1(folder / "older")
    save_refiner(folder / "polish")
    save_control_net(folder / "lines", model)
    save_lora(folder / "ink.safetensors", model)
    save_embedding(folder / "far.safetensors")
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[RunningServer]:
    """A server of its own: what odd requests leave behind is for nobody else."""
    data = tmp_path_factory.mktemp("data")
    with start_server(data, "--model-root", str(root), "--no-preload") as server:
        yield server


@pytest.mark.parametrize("first", range(0, CASES, OFTEN))
async def test_odd_generations_are_refused_by_field_or_drawn(
    client: Client, running: RunningServer, first: int
) -> None:
    await devices_ready(client, "cpu:0")
    before = await plain_pictures(client, "tiny")
    workers = running.log().count('"worker_spawned"')

    for number in range(first, first + OFTEN):
        trial = await tried(client, ODD.request(number))
        same = said_again(trial)
        if same is not None:
            _, files = await client.draw(same)
            assert files == trial.files, number

    assert await plain_pictures(client, "tiny") == before
    assert running.log().count('"worker_spawned"') == workers
    assert "incident_id" not in running.log()


@pytest.mark.parametrize("number", range(1000, 1003))
async def test_odd_generations_come_out_the_same_beside_others_and_through_pauses(
    client: Client, number: int
) -> None:
    """Whatever they hold, and wherever the pause falls."""
    await devices_ready(client, "cpu:0")
    trial = await tried(client, ODD.request(number))
    settings = trial.request.settings
    if not settings.HasField("seed") and not settings.seeds:
        settings.seeds.extend(trial.effective.seeds)

    interrupted, (_, beside) = await asyncio.gather(
        _paused_once(client, trial.request), client.draw(trial.request)
    )

    assert interrupted == trial.files
    assert beside == trial.files


async def _paused_once(
    client: Client, request: inference_pb2.GenerateRequest
) -> dict[int, bytes]:
    """Its pictures, with a pause after its first step where it is not over by then."""
    files: dict[int, bytes] = {}
    asked = False
    async for response in client.generate(request):
        event = response.event
        kind = event.WhichOneof("event")
        if kind == "step_finished" and not asked:
            asked = True
            pause = processing_pb2.PauseSessionRequest(session_id=event.session_id)
            with suppress(grpc.aio.AioRpcError):  # it is over
                await client.processing.PauseSession(pause, metadata=client.metadata)
        elif kind == "paused":
            resume = processing_pb2.ResumeSessionRequest(session_id=event.session_id)
            await client.processing.ResumeSession(resume, metadata=client.metadata)
        elif kind == "image_chunk":
            chunk = event.image_chunk
            files[chunk.image_index] = files.get(chunk.image_index, b"") + chunk.data
    return files
