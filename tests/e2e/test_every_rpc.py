"""Every RPC of the contract answers with a documented status, whatever it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deviceops.v1 import (
    device_info_pb2,
    device_pb2,
    event_pb2,
    inference_pb2,
    processing_pb2,
    sampling_pb2,
)
from server.app import SERVICE_NAMES
from tests.contract.sketches.newer import LATER_FIELD
from tests.contract.strategies import requests
from tests.contract.whole import complete
from tests.e2e.errors import Refusal, read
from tests.running import RunningServer, small_request

PATIENCE_SECONDS = 20.0
# UNKNOWN and INTERNAL are defects; UNAVAILABLE would be a lost worker.
DOCUMENTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


@dataclass(frozen=True)
class Rpc:
    """One method of the contract."""

    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def request_class(self) -> type[Message]:
        return GetMessageClass(self.descriptor.input_type)

    async def call(
        self,
        channel: grpc.aio.Channel,
        token: str,
        *messages: Message,
        longest: int = 3,
        heard: Callable[[Message], object] = lambda answer: None,
    ) -> Refusal:
        """Send a message, or a stream of some, and read up to `longest` answers.

        Args:
            channel: To the server.
            token: Its client's; empty for none.
            messages: What is sent.
            longest: So many answers of a stream are read.
            heard: Gets each answer.

        Returns:
            The status it came to.
        """
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        send: Any = self.request_class.SerializeToString
        parse = GetMessageClass(self.descriptor.output_type).FromString
        form = (self.descriptor.client_streaming, self.descriptor.server_streaming)
        make: Any = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }[form]
        argument = _each(messages) if self.descriptor.client_streaming else messages[0]
        call: Any = make(self.path, send, parse)(
            argument, metadata=metadata, timeout=PATIENCE_SECONDS
        )
        try:
            if self.descriptor.server_streaming:
                count = 0
                async for answer in call:
                    heard(answer)
                    count += 1
                    if count == longest:
                        call.cancel()
                        return Refusal(grpc.StatusCode.OK, "")
            else:
                heard(await call)
        except grpc.aio.AioRpcError as error:
            return read(error)
        return Refusal(grpc.StatusCode.OK, "")


async def _each(messages: Iterable[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message


def _every_rpc() -> list[Rpc]:
    pool = Default()
    return [
        Rpc(method) for name in SERVICE_NAMES for method in pool.FindServiceByName(name).methods
    ]


EVERY_RPC = _every_rpc()
# Ending a worker is what this one is for.
HARMLESS_RPCS = [rpc for rpc in EVERY_RPC if rpc.descriptor.name != "RestartWorker"]
by_path = pytest.mark.parametrize("rpc", EVERY_RPC, ids=lambda rpc: rpc.path.split(".")[-1])


@pytest.fixture
async def channel(server: RunningServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as connected:
        yield connected


def test_the_contract_is_whole() -> None:
    services = {rpc.descriptor.containing_service.name for rpc in EVERY_RPC}

    assert services == {
        "DeviceService",
        "MemoryService",
        "ModelService",
        "ProcessingService",
        "InferenceService",
        "PostprocessingService",
        "ArtifactService",
        "SystemService",
    }
    assert len(EVERY_RPC) > 80


@by_path
async def test_no_rpc_answers_without_the_token(rpc: Rpc, channel: grpc.aio.Channel) -> None:
    refusal = await rpc.call(channel, "", rpc.request_class())

    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    assert refusal.reason == "TOKEN_MISSING"


@by_path
async def test_an_empty_request_gets_a_documented_answer(
    rpc: Rpc, channel: grpc.aio.Channel, server: RunningServer
) -> None:
    # A watch tells what there is at once, and what changes whenever it does.
    longest = 1 if rpc.descriptor.name.startswith("Watch") else 3
    refusal = await rpc.call(channel, server.token, rpc.request_class(), longest=longest)

    assert refusal.code in DOCUMENTED, refusal
    if refusal.code is grpc.StatusCode.UNIMPLEMENTED:
        assert refusal.reason == "NOT_BUILT"
    elif refusal.code is not grpc.StatusCode.OK:
        assert refusal.reason
        assert refusal.message


@by_path
async def test_a_field_that_the_server_does_not_know_is_refused(
    rpc: Rpc, channel: grpc.aio.Channel, server: RunningServer
) -> None:
    """What a newer client sets is never ignored, whether the RPC is built or not."""
    refusal = await rpc.call(channel, server.token, rpc.request_class.FromString(LATER_FIELD))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNKNOWN_FIELD",
    )


async def test_arbitrary_requests_get_documented_answers_and_harm_nothing(
    server: RunningServer, channel: grpc.aio.Channel
) -> None:
    """Drawn from the descriptors: NaN, unknown enums, control characters, huge numbers."""
    loop = asyncio.get_running_loop()
    async with server.client() as client:  # an earlier test may have restarted the worker
        await client.draw(small_request(steps=1))
    before = await _worker_restarts(channel, server)

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        rpc = data.draw(st.sampled_from(HARMLESS_RPCS))
        message = data.draw(requests(rpc.request_class))
        if data.draw(st.booleans()):  # else few come past what is required
            complete(message)
        future = asyncio.run_coroutine_threadsafe(
            rpc.call(channel, server.token, message, longest=1), loop
        )
        refusal = future.result(PATIENCE_SECONDS * 2)
        assert refusal.code in DOCUMENTED, (rpc.path, refusal)

    await asyncio.to_thread(fuzz)

    health = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    async with server.client() as client:
        events, _ = await client.draw(small_request(steps=1))
    assert events[-1].HasField("completed")
    assert await _worker_restarts(channel, server) == before


async def _worker_restarts(channel: grpc.aio.Channel, server: RunningServer) -> int:
    """How many workers the server has started, by its log."""
    return server.log().count('"worker_spawned"')


@by_path
def test_every_answer_of_a_long_rpc_is_an_event_of_its_session(rpc: Rpc) -> None:
    """What streams work streams SessionEvents; watches of state have events of their own."""
    if not rpc.descriptor.server_streaming:
        return
    fields = rpc.descriptor.output_type.fields
    if "options" in rpc.descriptor.input_type.fields_by_name:
        assert "delivery" in rpc.descriptor.input_type.fields_by_name
        assert [field.name for field in fields] == ["event"]
        assert fields[0].message_type.full_name == event_pb2.SessionEvent.DESCRIPTOR.full_name


async def test_every_service_is_healthy(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)

    for name in ("", *SERVICE_NAMES):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name


async def test_devices_and_models_are_told_truthfully(server: RunningServer) -> None:
    async with server.client() as client:
        devices = await client.device.ListDevices(
            device_pb2.ListDevicesRequest(), metadata=client.metadata
        )
        capabilities = await client.inference.GetCapabilities(
            inference_pb2.GetCapabilitiesRequest(), metadata=client.metadata
        )
        sessions = await client.processing.ListSessions(
            processing_pb2.ListSessionsRequest(page_size=1), metadata=client.metadata
        )

    (processor,) = (d for d in devices.devices if d.kind == device_info_pb2.DEVICE_KIND_CPU)
    assert processor.device_id == "cpu:0"
    assert processor.state == device_info_pb2.DEVICE_STATE_READY
    assert processor.total_memory.value_bytes > 2**30
    assert {probe.kind for probe in devices.probes} >= {device_info_pb2.DEVICE_KIND_DIRECT_ML}
    assert all(probe.explanation for probe in devices.probes)
    known = {each.scheduler for each in capabilities.schedulers}
    unbuilt = {sampling_pb2.SCHEDULER_DPM_SOLVER_SDE}
    assert known | unbuilt | {0} == set(sampling_pb2.Scheduler.values())
    limits = {limit.field: limit for limit in capabilities.limits}
    assert limits["GenerationSettings.steps"].maximum == 150
    assert any(not feature.available for feature in capabilities.features)
    assert len(sessions.sessions) <= 1
