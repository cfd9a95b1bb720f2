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
    event_pb2,
    memory_info_pb2,
    memory_pb2,
    model_info_pb2,
    model_pb2,
    model_task_pb2,
    processing_pb2,
    session_pb2,
)
from tests.domains.model.disk import copy_demo
from tests.e2e.catalogue import Catalogue
from tests.e2e.errors import Refusal, read
from tests.running import Client, RunningServer, small_request

CPU = "cpu:0"
PATIENCE_SECONDS = 120.0
MODEL = "emoji-xl"


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    """A client of a server whose worker holds no model."""
    async with server.client() as connected:
        if (await status(connected)).loaded:
            await unloaded(unload(connected, model_id=MODEL))
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


def in_type(part: str, data_type: str) -> common_pb2.PartDataType:
    return common_pb2.PartDataType(
        part=common_pb2.ModelPart.Value(f"MODEL_PART_{part}"),
        data_type=common_pb2.TensorDataType.Value(f"TENSOR_DATA_TYPE_{data_type}"),
    )


async def test_a_part_computes_in_the_type_that_was_chosen(client: Client) -> None:
    chosen = [in_type("VAE", "BFLOAT16")]
    _, model = await loaded(load(client, model_id=MODEL, data_types=chosen))
    types = {part.part: part.data_type for part in model.data_types}
    drawn, _ = await client.draw(small_request(steps=1))
    _, plain = await loaded(load(client, model_id=MODEL))
    other = [in_type("DENOISER", "BFLOAT16")]
    _, again = await loaded(load(client, model_id=MODEL, data_types=other))

    assert types[common_pb2.MODEL_PART_VAE] == common_pb2.TENSOR_DATA_TYPE_BFLOAT16
    assert types[common_pb2.MODEL_PART_DENOISER] == common_pb2.TENSOR_DATA_TYPE_FLOAT32
    # Whoever leaves types open takes what lies there, whoever asks for others loads again.
    used = {one.part: one.data_type for one in drawn[-1].completed.generation.data_types}
    assert used == types
    assert plain.origin == model_info_pb2.MODEL_ORIGIN_LOADED
    assert again.origin == model_info_pb2.MODEL_ORIGIN_DISK


@pytest.mark.parametrize(
    ("chosen", "code", "reason"),
    [
        ([("VAE", "INT8")], grpc.StatusCode.INVALID_ARGUMENT, "FIELDS_CONFLICT"),
        (
            [("UNSPECIFIED", "FLOAT32")],
            grpc.StatusCode.INVALID_ARGUMENT,
            "REQUIRED_FIELD_MISSING",
        ),
        ([("VAE", "FLOAT32")] * 2, grpc.StatusCode.INVALID_ARGUMENT, "FIELDS_CONFLICT"),
        ([("TEXT_ENCODER_3", "FLOAT32")], grpc.StatusCode.INVALID_ARGUMENT, "FIELDS_CONFLICT"),
        ([("VAE", "FLOAT32")] * 9, grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_ELEMENTS"),
        ([("VAE", "FLOAT16")], grpc.StatusCode.FAILED_PRECONDITION, "DEVICE_UNSUPPORTED"),
    ],
)
async def test_data_types_that_cannot_be_are_refused(
    client: Client, chosen: list[tuple[str, str]], code: grpc.StatusCode, reason: str
) -> None:
    refusal = await refused(
        client, device_id="cpu", data_types=[in_type(*one) for one in chosen]
    )
    assert refusal.code is code
    assert refusal.reason == reason


async def test_warming_up_draws_a_step(client: Client) -> None:
    events, _ = await loaded(load(client, model_id=MODEL, warm_up=True))
    steps = [event.step_finished for event in events if event.HasField("step_finished")]
    phases = [e.phase_started.phase for e in events if e.HasField("phase_started")]

    assert [(step.step, step.steps) for step in steps] == [(1, 1)]
    assert phases == [session_pb2.PHASE_LOADING_MODEL, session_pb2.PHASE_MEASURING]
    assert not list(events[-1].completed.images)
    # What lies there already is warmed up all the same.
    events, again = await loaded(load(client, model_id=MODEL, warm_up=True))
    assert any(event.HasField("step_finished") for event in events)
    assert again.origin == model_info_pb2.MODEL_ORIGIN_LOADED


async def status(client: Client, model_id: str = MODEL) -> model_pb2.GetModelStatusResponse:
    request = model_pb2.GetModelStatusRequest(model_id=model_id)
    found: model_pb2.GetModelStatusResponse = await client.model.GetModelStatus(
        request, metadata=client.metadata
    )
    return found


async def test_a_dry_run_says_what_would_be_and_loads_nothing(client: Client) -> None:
    events, model = await loaded(load(client, model_id=MODEL, dry_run=True))

    assert model.estimate.fits
    assert model.estimate.weights.value_bytes > 0
    assert model.estimate.peak.value_bytes > model.estimate.weights.value_bytes
    assert not model.origin
    assert not any(event.HasField("transfer_progress") for event in events)
    assert not (await status(client)).loaded


async def test_status_tells_a_model_everywhere(client: Client) -> None:
    before = await status(client)
    _, model = await loaded(load(client, model_id=MODEL))
    after = await status(client, "")

    assert before.model.model_id == after.model.model_id == MODEL
    assert not before.loaded
    assert not before.components
    (estimate,) = before.estimates
    assert estimate.device_id == CPU
    assert estimate.weights.quality == common_pb2.FIGURE_QUALITY_ESTIMATED
    (there,) = after.loaded
    assert (there.device_id, there.size, there.origin) == (CPU, model.size, model.origin)
    assert list(there.data_types) == list(model.data_types)
    assert there.HasField("load_time")
    assert not there.session_ids
    assert {one.component for one in after.components} >= {"unet", "vae"}
    (estimate,) = after.estimates
    assert estimate.weights == model.size
    assert estimate.HasField("load")


async def test_status_names_the_sessions_that_use_it(client: Client) -> None:
    await loaded(load(client, model_id=MODEL))
    call = client.generate(small_request(steps=150))
    session_id = ""
    async for answer in call:
        session_id = answer.event.session_id
        if answer.event.HasField("step_finished"):
            break
    found = await status(client)
    call.cancel()

    assert list(found.loaded[0].session_ids) == [session_id]
    assert all(one.in_use for one in found.components)


def unload(client: Client, **fields: Any) -> Any:
    request = model_pb2.UnloadModelRequest(**fields)
    return client.model.UnloadModel(request, metadata=client.metadata)


async def unloaded(call: Any) -> model_info_pb2.ModelUnloadReport:
    events = [answer.event async for answer in call]
    assert events[-1].completed.WhichOneof("report") == "model_unload"
    return events[-1].completed.model_unload


async def not_unloaded(client: Client, **fields: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await unloaded(unload(client, **fields))
    return read(failed.value)


async def test_an_unloaded_model_is_gone_and_can_come_back(client: Client) -> None:
    _, model = await loaded(load(client, model_id=MODEL))
    report = await unloaded(unload(client, model_id=MODEL, device_ids=["cpu"]))
    after = await status(client)
    _, back = await loaded(load(client, model_id=MODEL))

    assert list(report.device_ids) == [CPU]
    assert report.freed.value_bytes == model.size.value_bytes
    assert not after.loaded
    assert back.origin == model_info_pb2.MODEL_ORIGIN_DISK


async def test_watchers_hear_why_memorys_upkeep_took_a_model(client: Client) -> None:
    await loaded(load(client, model_id=MODEL, device_id="cpu"))
    watch = client.model.WatchModels(
        model_pb2.WatchModelsRequest(model_id=MODEL),
        metadata=client.metadata,
        timeout=PATIENCE_SECONDS,
    )
    all_that_is_idle = memory_pb2.EvictModelsRequest(
        place=memory_info_pb2.MemoryPlace(device_id=CPU), target_free_bytes=1 << 40
    )
    last, gone = None, False
    async for told in watch:
        last, gone = told, told.kind == model_pb2.MODEL_EVENT_KIND_UNLOADED
        if gone:
            break
        if told.kind == model_pb2.MODEL_EVENT_KIND_LOADED:
            async for _ in client.memory.EvictModels(
                all_that_is_idle, metadata=client.metadata
            ):
                pass

    assert gone
    assert last.cause == model_pb2.EVICTION_CAUSE_REQUESTED


async def test_unloading_waits_for_the_work_that_uses_it(client: Client) -> None:
    drawing = client.generate(small_request(steps=8))
    async for answer in drawing:
        if answer.event.HasField("step_finished"):
            break
    report = await unloaded(unload(client, model_id=MODEL))
    rest = [answer.event async for answer in drawing]

    assert rest[-1].HasField("completed")
    assert list(report.device_ids) == [CPU]


async def test_what_is_still_in_use_when_the_time_is_over_stays(client: Client) -> None:
    await loaded(load(client, model_id=MODEL))
    drawing = client.generate(small_request(steps=150))
    async for answer in drawing:
        if answer.event.HasField("step_finished"):
            break
    options = session_pb2.WorkOptions()
    options.run_timeout.FromMilliseconds(200)
    refusal = await not_unloaded(client, model_id=MODEL, options=options)
    kept = (await status(client)).loaded
    drawing.cancel()

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "MODEL_IN_USE",
    )
    assert kept


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "REQUIRED_FIELD_MISSING"),
        ({"model_id": "no-such"}, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        (
            {"model_id": MODEL, "device_ids": ["cpu:9"]},
            grpc.StatusCode.NOT_FOUND,
            "DEVICE_NOT_FOUND",
        ),
        ({"model_id": MODEL}, grpc.StatusCode.FAILED_PRECONDITION, "STATE_CONFLICT"),
        (
            {"model_id": MODEL, "device_ids": ["cpu"]},
            grpc.StatusCode.FAILED_PRECONDITION,
            "STATE_CONFLICT",
        ),
    ],
)
async def test_what_cannot_be_unloaded_is_refused(
    client: Client, fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    refusal = await not_unloaded(client, **fields)
    assert (refusal.code, refusal.reason) == (code, reason)


async def test_a_cancelled_unload_leaves_the_model(client: Client) -> None:
    await loaded(load(client, model_id=MODEL))
    drawing = client.generate(small_request(steps=150))
    async for answer in drawing:
        if answer.event.HasField("step_finished"):
            break
    waiting = unload(client, model_id=MODEL)
    async for answer in waiting:
        if answer.event.HasField("phase_started"):
            break
    waiting.cancel()
    kept = (await status(client)).loaded
    drawing.cancel()
    assert kept


async def test_a_benchmark_tells_each_part_of_the_time(client: Client) -> None:
    request = model_task_pb2.BenchmarkModelRequest(
        model_id=MODEL, width=256, height=256, steps=3
    )
    call = client.model.BenchmarkModel(request, metadata=client.metadata)
    events = [answer.event async for answer in call]
    found = events[-1].completed.model_benchmark

    assert (found.model_id, found.device_id) == (MODEL, CPU)
    assert found.step.count == 3
    assert min(found.load.count, found.encode.count, found.decode.count) >= 3
    for each in (found.load, found.encode, found.step, found.decode):
        assert 0 < each.p50_ms <= each.p99_ms <= each.total_ms
    assert found.peak_memory.value_bytes > 0
    assert found.data_types
    # It lay on no device before.
    assert not (await status(client)).loaded


@pytest.mark.parametrize("fields", [{"width": 257}, {"steps": 0}, {"height": 128}])
async def test_a_benchmark_out_of_range_is_refused(
    client: Client, fields: dict[str, int]
) -> None:
    request = model_task_pb2.BenchmarkModelRequest(model_id=MODEL, **fields)
    call = client.model.BenchmarkModel(request, metadata=client.metadata)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        _ = [answer async for answer in call]
    refusal = read(failed.value)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == list(fields)


async def test_an_unusable_model_is_refused_with_its_problem(
    client: Client, server: RunningServer, models: Path
) -> None:
    broken = copy_demo(models / "broken")
    for weights in (broken / "unet").glob("*.safetensors"):
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1])
    with Catalogue(server) as catalogue:
        catalogue.refresh()
    refusal = await refused(client, model_id="broken")
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason.startswith("MODEL_")
