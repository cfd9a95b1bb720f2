"""The default model is there before anybody asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deviceops.v1 import (
    device_info_pb2,
    device_pb2,
    generation_pb2,
    inference_pb2,
    model_info_pb2,
    model_pb2,
    processing_pb2,
    session_pb2,
)
from tests.domains.model.disk import copy_demo
from tests.running import Client, small_request, start_server

MODEL = "emoji-xl"


async def state(client: Client) -> device_info_pb2.DeviceInfo:
    request = device_pb2.GetDeviceRequest(device_id="cpu")
    found = await client.device.GetDevice(request, metadata=client.metadata)
    return found.device


async def loaded(client: Client) -> list[model_info_pb2.LoadedModel]:
    request = model_pb2.GetModelStatusRequest()
    found = await client.model.GetModelStatus(request, metadata=client.metadata)
    return list(found.loaded)


async def test_the_device_is_ready_when_its_default_model_is(tmp_path: Path) -> None:
    with start_server(tmp_path, "--preload") as running:
        async with running.client() as client, asyncio.timeout(120):
            seen = set()
            while (device := await state(client)).state != device_info_pb2.DEVICE_STATE_READY:
                seen.add(device.explanation)
                assert device.state == device_info_pb2.DEVICE_STATE_STARTING
                await asyncio.sleep(0.05)
            there = await loaded(client)
            request = processing_pb2.ListSessionsRequest()
            sessions = await client.processing.ListSessions(request, metadata=client.metadata)
            events, _ = await client.draw(small_request(steps=1))

    assert "Its default model is being loaded." in seen
    assert [one.model_id for one in there] == [MODEL]
    assert {one.state for one in sessions.sessions} == {session_pb2.SESSION_STATE_COMPLETED}
    assert not any(event.HasField("transfer_progress") for event in events)
    assert events[-1].completed.generation.model_origin == model_info_pb2.MODEL_ORIGIN_LOADED


@pytest.mark.demonstration
async def test_work_that_comes_meanwhile_is_done_and_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "models"
    copy_demo(root / "other")
    copy_demo(root / "zebra")
    flags = ("--preload", "--model-root", str(root), "--default-model", "zebra")
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client, asyncio.timeout(120):
            settings = generation_pb2.GenerationSettings(
                model_id="other", prompt="a cat", width=256, height=256, steps=1, seed=1
            )
            events, _ = await client.draw(inference_pb2.GenerateRequest(settings=settings))
            request = model_pb2.GetModelStatusRequest(model_id="other")
            found = await client.model.GetModelStatus(request, metadata=client.metadata)

    assert events[-1].HasField("completed")
    assert len(found.loaded) == 1
