"""A crowd, a slow reader and a flood: whoever has the token is answered all the while.

One server with short patience. Each attack goes on while calls with the token are timed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from deviceops.v1 import device_pb2, inference_pb2, memory_pb2, processing_pb2
from server.interceptors.call_classes import CALL_CLASSES
from tests.e2e.errors import Refusal, read
from tests.e2e.memory_calls import HOST, MIB, lend
from tests.running import Client, RunningServer, small_request, start_server
from tests.server.interceptors.test_counts import LISTS, METHODS

# Answers that need no device take milliseconds; who is held up by the others waits for their
# end, which is IDLE_SECONDS away and more. The median is looked at, since a machine that
# does a lot else is late with one answer or another.
IDLE_SECONDS = 8
SOON = IDLE_SECONDS / 2
# Of computing, for a call of four megabytes: a tenth is usual, Python objects of all take more.
FLOOD_SECONDS = 2.0
SETTINGS = f"""
idle_stream_seconds = {IDLE_SECONDS}
tokenless_watch_seconds = {IDLE_SECONDS + 1}
slow_reader_seconds = {IDLE_SECONDS}
control_call_seconds = 20
"""
FLOOD_BYTES = 4_000_000


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return _free_port()


@pytest.fixture(scope="module")
def impatient(
    tmp_path_factory: pytest.TempPathFactory, metrics_port: int
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("crowd")
    config = folder / "config.toml"
    config.write_text(SETTINGS)
    flags = ("--config", str(config), "--metrics-port", str(metrics_port))
    with start_server(folder / "data", *flags) as running:
        yield running


@pytest.fixture
async def client(impatient: RunningServer) -> AsyncIterator[Client]:
    async with impatient.client() as client:
        await client.device.ListDevices(
            device_pb2.ListDevicesRequest(), metadata=client.metadata
        )
        yield client


def connection(server: RunningServer) -> grpc.aio.Channel:
    """One of its own, as another program would have."""
    return grpc.aio.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])


async def usual(call: Callable[[], Awaitable[object]], times: int) -> float:
    """Seconds of the median of so many calls, one after another."""
    took = []
    for _ in range(times):
        started = time.monotonic()
        await call()
        took.append(time.monotonic() - started)
    return statistics.median(took)


def computed(process: psutil.Process) -> float:
    """Seconds that it has computed so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def look(client: Client) -> Awaitable[object]:
    return client.processing.ListSessions(
        processing_pb2.ListSessionsRequest(), metadata=client.metadata
    )


async def end_of(call: Any) -> Refusal:
    """What a call that is open was told at its end."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return read(error)
    raise AssertionError("it ended well")


async def test_strangers_use_up_nothing_and_are_ended(
    impatient: RunningServer, client: Client
) -> None:
    """Watches of health without the token, and checks that never send their message."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connection(impatient)) for _ in range(4)]
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            for channel in channels
            for _ in range(99)
        ]
        silent = [
            channel.stream_stream("/grpc.health.v1.Health/Check")()
            for channel in channels
            for _ in range(50)
        ]
        tries = [
            channel.unary_unary("/deviceops.v1.DeviceService/ListDevices")(b"")
            for channel in channels
            for _ in range(50)
        ]
        ends = [asyncio.ensure_future(end_of(each)) for each in (*watches, *silent)]
        assert await usual(lambda: look(client), 50) < SOON
        health = health_pb2_grpc.HealthStub(client.channel)

        def check() -> Awaitable[object]:
            return health.Check(health_pb2.HealthCheckRequest(), metadata=client.metadata)

        assert await usual(check, 20) < SOON
        told = await asyncio.wait_for(asyncio.gather(*ends), 120)
        refused = await asyncio.gather(*tries, return_exceptions=True)

    reasons = {(each.code.name, each.reason) for each in told}
    assert reasons == {
        ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"),
        ("DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"),
    }
    for error in refused:
        assert isinstance(error, grpc.aio.AioRpcError)
        assert read(error).reason == "TOKEN_MISSING"


async def test_with_more_waiting_than_the_queue_holds_all_else_is_answered(
    impatient: RunningServer, client: Client
) -> None:
    another = (("authorization", f"Bearer {await impatient.named('another')}"),)
    long = small_request(steps=150, image_count=9)
    calls = [client.generate(long) for _ in range(66)]
    firsts = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
    accepted = [
        first.event.session_id
        for first in firsts
        if isinstance(first, inference_pb2.GenerateResponse)
    ]
    refused = [first for first in firsts if isinstance(first, grpc.aio.AioRpcError)]
    assert (len(accepted), {read(error).reason for error in refused}) == (65, {"QUEUE_FULL"})
    assert all(read(error).retry_seconds for error in refused)

    waiting = client.inference.Generate(small_request(), metadata=another)
    first = await waiting.read()
    assert isinstance(first, inference_pb2.GenerateResponse)
    assert first.event.accepted.queue_position <= 2

    assert await usual(lambda: look(client), 20) < SOON
    remaining = iter(accepted)

    def cancel() -> Awaitable[object]:
        return client.processing.CancelSession(
            processing_pb2.CancelSessionRequest(session_id=next(remaining)),
            metadata=client.metadata,
        )

    assert await usual(cancel, len(accepted)) < SOON
    last = first
    async with asyncio.timeout(240):
        while isinstance(response := await waiting.read(), inference_pb2.GenerateResponse):
            last = response
    assert last.event.HasField("completed")
    for call in calls:
        call.cancel()


async def test_streams_that_send_nothing_end(client: Client) -> None:
    """Of every class of calls at once, each more than its class has room for."""
    ends = {
        path: [
            asyncio.ensure_future(
                end_of(client.channel.stream_stream(f"/{path}")(metadata=client.metadata))
            )
            for _ in range(66)
        ]
        for path in (
            "deviceops.v1.MemoryService/WriteAllocation",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "deviceops.v1.DeviceService/ListDevices",
            "deviceops.v1.InferenceService/Generate",
        )
    }
    assert await usual(lambda: look(client), 20) < SOON
    for path, each in ends.items():
        told = await asyncio.wait_for(asyncio.gather(*each), 120)
        assert {one.reason for one in told} <= {"DEADLINE_EXPIRED", "TOO_MANY_STREAMS"}, path
        assert sum(one.reason == "DEADLINE_EXPIRED" for one in told) >= 64, path


async def test_no_list_is_long_enough_to_hold_anybody_up(
    impatient: RunningServer, client: Client
) -> None:
    """Four megabytes of every list of every request; afterwards the memory is free."""
    front = psutil.Process(impatient.process.pid)
    before = front.memory_info().rss
    by_request = {method.input_type.name: method for method in METHODS}
    answers: list[float] = []
    done = asyncio.Event()

    async def check_health() -> None:
        async with connection(impatient) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not done.is_set():
                started = time.monotonic()
                await health.Check(health_pb2.HealthCheckRequest(), metadata=client.metadata)
                answers.append(time.monotonic() - started)
                await asyncio.sleep(0.01)

    checking = asyncio.ensure_future(check_health())
    for name, listed in sorted(LISTS.items()):
        method = by_request[name.partition(".")[0]]
        packed = listed.packable
        flood = listed.holding(FLOOD_BYTES if packed else FLOOD_BYTES // 3, packed=packed)
        flood = flood if len(flood) < 4 * MIB else listed.holding(FLOOD_BYTES // 9)
        path = f"/{method.containing_service.full_name}/{method.name}"
        assert path in CALL_CLASSES
        before_it = computed(front)
        told = await end_of(
            client.channel.stream_stream(path)(iter([flood]), metadata=client.metadata)
        )
        spent = computed(front) - before_it
        assert told.reason in ("TOO_MANY_ELEMENTS", "NOT_BUILT"), (name, told)
        assert spent < FLOOD_SECONDS, name
    done.set()
    await checking
    assert statistics.median(answers) < SOON
    assert front.memory_info().rss - before < 100 * MIB


async def test_readers_that_stall_cost_little_and_are_ended(
    impatient: RunningServer, client: Client
) -> None:
    readers, size = 30, 64 * MIB
    front = psutil.Process(impatient.process.pid)
    allocation = await lend(client, HOST, size, lease=Duration(seconds=600))
    request = memory_pb2.ReadAllocationRequest(allocation_id=allocation)
    await asyncio.sleep(0)
    before = front.memory_full_info().uss
    async with connection(impatient) as channel:
        read_allocation: Any = channel.unary_stream(
            "/deviceops.v1.MemoryService/ReadAllocation",
            request_serializer=memory_pb2.ReadAllocationRequest.SerializeToString,
        )
        calls = [read_allocation(request, metadata=client.metadata) for _ in range(readers)]
        await asyncio.gather(*(call.read() for call in calls))
        most = 0
        ended = False
        async with asyncio.timeout(120):
            while not ended:
                most = max(most, front.memory_full_info().uss - before)
                ended = impatient.log().count("slow_reader") >= readers
                await asyncio.sleep(0.1)
        assert most <= readers * 4 * MIB
        assert await usual(lambda: look(client), 10) < SOON
        # Half of what may be open reads at once again: the places were given back.
        again = await lend(client, HOST, MIB)
        chunks = client.memory.ReadAllocation(
            memory_pb2.ReadAllocationRequest(allocation_id=again), metadata=client.metadata
        )
        assert sum([len(chunk.data) async for chunk in chunks]) == MIB
        told = await asyncio.wait_for(end_of(calls[0]), 30)
        assert told.reason == "SLOW_READER"
    async with asyncio.timeout(120):  # freed memory goes back every ten seconds
        while front.memory_full_info().uss - before > 24 * MIB:  # noqa: ASYNC110 -- a process
            await asyncio.sleep(0.5)


async def test_a_crowd_at_the_metrics_port_costs_nothing(
    impatient: RunningServer, client: Client, metrics_port: int
) -> None:
    front = psutil.Process(impatient.process.pid)
    threads, handles = front.num_threads(), front.num_fds()
    crowd = [socket.create_connection(("127.0.0.1", metrics_port), 60) for _ in range(500)]
    reader, writer = await asyncio.open_connection("127.0.0.1", metrics_port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert b"deviceops_calls_total" in answer
    assert front.num_threads() - threads <= 4
    assert front.num_fds() - handles <= 64
    assert await usual(lambda: look(client), 10) < SOON
    for each in crowd:
        each.close()


async def test_many_watches_cost_a_bounded_part_of_a_core(
    impatient: RunningServer, client: Client
) -> None:
    front = psutil.Process(impatient.process.pid)
    request = memory_pb2.WatchMemoryRequest(interval=Duration(nanos=100_000_000))
    watches = [client.memory.WatchMemory(request, metadata=client.metadata) for _ in range(250)]

    async def follow(watch: Any) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            async for _ in watch:
                pass

    following = [asyncio.ensure_future(follow(watch)) for watch in watches]
    await asyncio.sleep(1)
    used, started = computed(front), time.monotonic()
    await asyncio.sleep(4)
    share = (computed(front) - used) / (time.monotonic() - started)
    assert await usual(lambda: look(client), 10) < SOON
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*following)
    assert share < 0.6


def test_the_server_lives(impatient: RunningServer, tmp_path: Path) -> None:
    assert impatient.process.poll() is None
    log = impatient.log()
    assert '"incident"' not in log
    assert "background_work_failed" not in log
