"""Random and damaged bytes on the wire: documented answers only, and the server lives on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import (
    artifact_pb2,
    device_info_pb2,
    device_pb2,
    generation_pb2,
    inference_pb2,
    memory_pb2,
    model_pb2,
    model_task_pb2,
    processing_pb2,
    session_pb2,
)
from server.config import Settings
from tests.server.apps import Running, SteeredApp, running
from tests.server.echo import told

CALLS = 1_500
AT_ONCE = 40
SEED = 20_260_101

GENERATE = inference_pb2.GenerateRequest(
    settings=generation_pb2.GenerationSettings(prompt="a red apple", width=512, seed=7),
    options=session_pb2.WorkOptions(request_id="2f1e"),
    placement=device_info_pb2.DevicePlacement(device_id="cpu:0"),
)
WATCH = processing_pb2.WatchSessionRequest(session_id="s", from_sequence=3)
UPLOAD = artifact_pb2.UploadArtifactRequest(data=b"x" * 40)
# Method, whether it streams requests, a good message.
METHODS: list[tuple[str, bool, Message]] = [
    ("DeviceService/ListDevices", False, device_pb2.ListDevicesRequest()),
    ("InferenceService/Generate", False, GENERATE),
    ("ModelService/ListModels", False, model_pb2.ListModelsRequest(page_size=5)),
    (
        "ProcessingService/WatchSession",
        False,
        processing_pb2.WatchSessionRequest(session_id="s"),
    ),
    (
        "MemoryService/CreateAllocation",
        False,
        memory_pb2.CreateAllocationRequest(size_bytes=2**40),
    ),
    (
        "ArtifactService/UploadArtifact",
        True,
        artifact_pb2.UploadArtifactRequest(data=b"x" * 40),
    ),
    ("ModelService/ImportModel", False, model_task_pb2.ImportModelRequest()),
]
# Bytes that happen to be a message are looked at and reach the servicers: one is there,
# six are not built.
DOCUMENTED = {
    ("OK", ""),
    ("INVALID_ARGUMENT", "MALFORMED_MESSAGE"),
    ("INVALID_ARGUMENT", "ENUM_VALUE_UNKNOWN"),
    ("INVALID_ARGUMENT", "NON_FINITE_NUMBER"),
    ("INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING"),
    ("INVALID_ARGUMENT", "UNKNOWN_FIELD"),
    ("UNIMPLEMENTED", "NOT_BUILT"),
}


def damaged(chance: random.Random, good: bytes) -> bytes:
    """Noise, or a good message cut, overwritten, or grown."""
    kind = chance.randrange(5)
    if kind == 0 or not good:
        return chance.randbytes(chance.randrange(1, 200))
    data = bytearray(good)
    if kind == 1:
        del data[chance.randrange(len(data)) :]
    elif kind == 2:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 3:
        place = chance.randrange(len(data))
        data[place:place] = chance.randbytes(chance.randrange(1, 20))
    else:
        data += b"\x0b" * chance.randrange(1, 300)  # groups within groups, never ended
    return bytes(data)


async def outcome_of(server: Running, name: str, streams: bool, data: bytes) -> Any:
    make: Any = server.channel.stream_stream if streams else server.channel.unary_stream
    call = make(f"/deviceops.v1.{name}")(
        iter([data]) if streams else data, metadata=server.metadata, timeout=60
    )
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code().name, told(error).reason
    return "OK", ""


async def test_damaged_messages_get_documented_answers(settings: Settings) -> None:
    chance = random.Random(SEED)
    outcomes: Counter[Any] = Counter()
    async with running(settings, SteeredApp()) as server:
        remaining = iter(range(CALLS))

        async def caller() -> None:
            for _ in remaining:
                name, streams, good = chance.choice(METHODS)
                data = damaged(chance, good.SerializeToString())
                outcomes[await outcome_of(server, name, streams, data)] += 1

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        status = await health_pb2_grpc.HealthStub(server.channel).Check(
            health_pb2.HealthCheckRequest()
        )
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        assert await outcome_of(server, "DeviceService/ListDevices", False, b"") == ("OK", "")
    assert outcomes.total() == CALLS
    assert set(outcomes) <= DOCUMENTED, outcomes
    assert outcomes["INVALID_ARGUMENT", "MALFORMED_MESSAGE"] > CALLS / 4, outcomes


async def test_methods_nobody_has_are_unimplemented(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        for name in ("DeviceService/Reboot", "NoService/ListDevices", ""):
            code, _ = await outcome_of(server, name, False, b"")
            assert code == "UNIMPLEMENTED"
