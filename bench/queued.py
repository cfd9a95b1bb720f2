"""What thousands of waiting sessions take: accepted, kept, and taken up by the next server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from grpc_health.v1 import (  # type: ignore[import-untyped]
    health_pb2,
    health_pb2_grpc,
)

from bench.sections import Section
from bench.served import MIB, Usage, models_and_data, served, tiny, usage_of, warmed
from deviceops.v1 import inference_pb2, processing_pb2, session_pb2
from tests.running import Client, RunningServer

NAME = "queued"
_DEVICE = "cpu:0"
_LANES = 32
_LOOK_SECONDS = 0.02
_LONGEST_SECONDS = 300.0


@dataclass(frozen=True)
class _Start:
    """Seconds from a server's start until it serves, and until it has all in its queue; and
    what it takes then."""

    serving: float
    taken_up: float
    usage: Usage


def _long(number: int) -> inference_pb2.GenerateRequest:
    """A generation that goes on without its caller, and keeps a device busy for long."""
    request = tiny(number, edge=512, steps=150)
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    return request


async def _accept(client: Client, numbers: asyncio.Queue[int]) -> None:
    while not numbers.empty():
        call = client.generate(_long(numbers.get_nowait()))
        answer = await call.read()
        assert answer.event.HasField("accepted"), answer
        call.cancel()


async def _waiting(client: Client) -> int:
    request = processing_pb2.ListQueueRequest(device_id=_DEVICE, page_size=1)
    answer = await client.processing.ListQueue(request, metadata=client.metadata)
    return answer.total_count


async def _started(running: RunningServer, begun: float, expected: int) -> _Start:
    async with running.client() as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        async for answer in health.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        serves = time.perf_counter() - begun
        while await _waiting(client) < expected:
            assert time.perf_counter() - begun < _LONGEST_SECONDS, await _waiting(client)
            await asyncio.sleep(_LOOK_SECONDS)
        taken_up = time.perf_counter() - begun
        await asyncio.sleep(1.0)  # what it takes is counted at rest
        return _Start(serves, taken_up, usage_of(running.process.pid))


def _start(models: Path, data: Path, settings: tuple[str, ...], expected: int) -> _Start:
    begun = time.perf_counter()
    with served(models, data, *settings) as running:
        start = asyncio.run(_started(running, begun, expected))
        running.process.kill()
        running.process.wait()
    return start


@dataclass(frozen=True)
class _Filled:
    """Seconds until all were accepted, how many wait, and what the server took before and
    then."""

    seconds: float
    waiting: int
    before: Usage
    after: Usage


async def _filled(running: RunningServer, count: int) -> _Filled:
    async with running.client() as client:
        await warmed(client)
        before = usage_of(running.process.pid)
        numbers: asyncio.Queue[int] = asyncio.Queue()
        for number in range(count):
            numbers.put_nowait(number)
        begun = time.perf_counter()
        await asyncio.gather(*(_accept(client, numbers) for _ in range(_LANES)))
        seconds = time.perf_counter() - begun
        await asyncio.sleep(1.0)
        waiting = await _waiting(client)
        return _Filled(seconds, waiting, before, usage_of(running.process.pid))


def measure(count: int) -> Section:
    """Accept so many, kill the server, and start the next one.

    The baseline is a start on the same data folder before any was accepted.
    """
    settings = (f"queue_length_per_device = {count + 100}",)
    with models_and_data() as (models, data):
        _start(models, data, settings, 0)  # the first start makes what later ones find
        plain = _start(models, data, settings, 0)
        with served(models, data, *settings) as running:
            filled = asyncio.run(_filled(running, count))
            running.process.kill()
            running.process.wait()
        journal = sum(file.stat().st_size for file in data.glob("*.sqlite*"))
        full = _start(models, data, settings, filled.waiting - 1)
    seconds, before, after = filled.seconds, filled.before, filled.after
    grown = after.since(before)
    table = [
        ("", "without", f"with {count}"),
        ("the front's memory, MiB", _mib(before.front_bytes), _mib(after.front_bytes)),
        ("start to serving, s", f"{plain.serving:.2f}", f"{full.serving:.2f}"),
        ("start until all wait again, s", f"{plain.taken_up:.2f}", f"{full.taken_up:.2f}"),
        (
            "the next front's memory, MiB",
            _mib(plain.usage.front_bytes),
            _mib(full.usage.front_bytes),
        ),
    ]
    each = full.usage.front_bytes - plain.usage.front_bytes
    return Section(
        NAME,
        f"{count} sessions that wait for one device, and a server that is killed with them.",
        table,
        notes=(
            f"accepting one: {1000 * seconds / count:.2f} ms with {_LANES} calls at once,"
            f" {1000 * grown.front_seconds / count:.2f} ms of the front's processor time",
            f"memory of one: {grown.front_bytes / count / 1024:.1f} KiB, in the next server"
            f" {each / count / 1024:.1f} KiB",
            f"the journal has {journal / MIB:.1f} MiB",
            f"times as long to serving: {full.serving / plain.serving:.2f}",
        ),
    )


def _mib(count: int) -> str:
    return f"{count / MIB:.0f}"
