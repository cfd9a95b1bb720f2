"""Loading a model ahead, over a real channel, with the real server and the demo model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    event_pb2,
    model_info_pb2,
    model_pb2,
    processing_pb2,
    session_pb2,
)
from tests.domains.model.disk import copy_demo
from tests.e2e.errors import Refusal, read
from tests.running import Client, RunningServer, small_request, start_server

CPU = "cpu:0"
MODEL = "emoji-xl"


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    """A client of a server whose worker holds no model."""
    async with server.client() as connected:
        request = device_pb2.RestartWorkerRequest(device_id=CPU)
        call = connected.device.RestartWorker(request, metadata=connected.metadata)
        assert [answer.event async for answer in call][-1].HasField("completed")
        yield connected


def load(client: Client, **fields: Any) -> Any:
    device_id = fields.pop("device_id", "")
    if device_id:
        fields["placement"] = device_info_pb2.DevicePlacement(device_id=device_id)
    request = model_pb2.LoadModelRequest(**fields)
    return client.model.LoadModel(request, metadata=client.metadata)


async def loaded(
    call: Any,
) -> tuple[list[event_pb2.SessionEvent], model_info_pb2.LoadedModel]:
    """The events of a load, and the model, which the last of them tells."""
    events = [answer.event async for answer in call]
    assert events[-1].completed.WhichOneof("report") == "loaded_model"
    return events, events[-1].completed.loaded_model


async def refused(client: Client, **fields: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await loaded(load(client, **fields))
    return read(failed.value)


async def test_a_model_is_loaded_once_and_ready_to_draw(client: Client) -> None:
    events, model = await loaded(load(client, model_id=MODEL, device_id="cpu"))
    again, same = await loaded(load(client, model_id=MODEL))
    drawn, _ = await client.draw(small_request(steps=1))

    moved = [e.transfer_progress for e in events if e.HasField("transfer_progress")]
    assert moved[-1].done_bytes == moved[-1].total_bytes > 0
    assert (model.model_id, model.device_id) == (MODEL, CPU)
    assert model.origin == model_info_pb2.MODEL_ORIGIN_DISK
    assert model.size.value_bytes > 0
    assert {part.part: part.data_type for part in model.data_types} == dict.fromkeys(
        (
            common_pb2.MODEL_PART_DENOISER,
            common_pb2.MODEL_PART_VAE,
            common_pb2.MODEL_PART_TEXT_ENCODER,
            common_pb2.MODEL_PART_TEXT_ENCODER_2,
        ),
        common_pb2.TENSOR_DATA_TYPE_FLOAT32,
    )
    assert model.HasField("load_time")
    assert model.HasField("last_use_time")
    assert same.size == model.size
    assert not same.HasField("load_time")
    assert same.origin == model_info_pb2.MODEL_ORIGIN_LOADED
    for later in (again, drawn):
        assert not any(event.HasField("transfer_progress") for event in later)


async def test_a_repeated_request_joins_the_first(client: Client) -> None:
    options = session_pb2.WorkOptions(request_id=str(uuid.uuid4()))
    first, model = await loaded(load(client, model_id=MODEL, options=options))
    second, same = await loaded(load(client, model_id=MODEL, options=options))

    assert {e.session_id for e in first} == {e.session_id for e in second}
    assert same == model
    other = await refused(client, options=options)
    assert other.reason == "REQUEST_ID_REUSED"


async def test_a_cancelled_load_ends_and_the_worker_works_on(client: Client) -> None:
    call = load(client, model_id=MODEL)
    session_id = ""
    async for answer in call:
        session_id = answer.event.session_id or session_id
        if answer.event.HasField("phase_started"):
            break
    call.cancel()

    request = processing_pb2.GetSessionRequest(session_id=session_id)
    async with asyncio.timeout(60):
        state = session_pb2.SESSION_STATE_UNSPECIFIED
        while state != session_pb2.SESSION_STATE_CANCELLED:
            found = await client.processing.GetSession(request, metadata=client.metadata)
            state = found.session.state
            assert state != session_pb2.SESSION_STATE_COMPLETED
    _, model = await loaded(load(client, model_id=MODEL))
    assert model.HasField("load_time")  # nothing was left half loaded


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"model_id": "no-such"}, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ({"device_id": "cpu:9"}, grpc.StatusCode.NOT_FOUND, "DEVICE_NOT_FOUND"),
    ],
)
async def test_what_is_unknown_is_refused(
    client: Client, fields: dict[str, str], code: grpc.StatusCode, reason: str
) -> None:
    refusal = await refused(client, **fields)
    assert (refusal.code, refusal.reason) == (code, reason)


async def test_fields_that_are_not_built_are_named(client: Client) -> None:
    half = common_pb2.PartDataType(
        part=common_pb2.MODEL_PART_VAE, data_type=common_pb2.TENSOR_DATA_TYPE_FLOAT16
    )
    refusal = await refused(client, warm_up=True, data_types=[half], dry_run=True)

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_BUILT")
    assert refusal.metadata["fields"] == "data_types,warm_up,dry_run"


async def test_an_unusable_model_is_refused_with_its_problem(tmp_path: Path) -> None:
    root = tmp_path / "models"
    broken = copy_demo(root / "broken")
    for weights in (broken / "unet").glob("*.safetensors"):
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1])
    with start_server(tmp_path / "data", "--model-root", str(root)) as running:
        async with running.client() as client:
            refusal = await refused(client, model_id="broken")
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason.startswith("MODEL_")
