"""Thousands of requests of every kind: how much the front and the worker grow."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import grpc
import grpc.aio

from bench.outcome import Goal
from bench.sections import Section
from bench.served import MIB, Usage, tiny, tiny_server, usage_of, warmed
from deviceops.v1 import (
    artifact_pb2,
    batch_pb2,
    device_pb2,
    generation_pb2,
    inference_pb2,
    memory_info_pb2,
    memory_pb2,
    model_pb2,
    postprocessing_pb2,
    processing_pb2,
    system_pb2,
)
from tests.running import Client, RunningServer

NAME = "mixed"
_MOST_MIB = 100.0
_LANES = 6
_DEVICE = "cpu:0"
# Before anything is counted: models and texts are cached, what is kept of what ended is full.
_WARM_SHARE = 0.1


@dataclass
class _Mix:
    """Sends requests, and remembers what earlier ones made."""

    client: Client
    chances: random.Random
    pictures: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    number: int = 0

    async def one(self) -> None:
        """One request of a kind that chance decides."""
        name = self.chances.choices([*_KINDS], [share for share, _ in _KINDS.values()])[0]
        try:
            await _KINDS[name][1](self)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:  # another one deleted it meanwhile
                self.refused[name] += 1
            else:
                raise
        self.sent[name] += 1

    async def call(self, method: Callable[..., Awaitable[object]], request: object) -> object:
        return await method(request, metadata=self.client.metadata)

    def asked(self) -> inference_pb2.GenerateRequest:
        """A generation that nothing had before."""
        self.number += 1
        return tiny(self.number)

    def one_of(self, kept: list[str]) -> str:
        """The id of something that was made; of nothing where nothing was."""
        return self.chances.choice(kept) if kept else str(uuid.UUID(int=0))


async def _generate(mix: _Mix) -> None:
    events, _ = await mix.client.draw(mix.asked())
    mix.sessions = [*mix.sessions, events[0].session_id][-200:]
    end = events[-1].completed
    mix.pictures = [*mix.pictures, *(each.artifact_id for each in end.images)][-200:]


async def _leave(mix: _Mix) -> None:
    call = mix.client.generate(mix.asked())
    await call.read()
    call.cancel()


async def _batch(mix: _Mix) -> None:
    request = batch_pb2.CreateBatchRequest(template=mix.asked().settings)
    for number in range(3):
        seed = generation_pb2.GenerationSettings(seed=number)
        overlay = generation_pb2.GenerationOverlay(settings=seed)
        request.items.add(item_id=str(number), overlay=overlay)
    answer = await mix.client.processing.CreateBatch(request, metadata=mix.client.metadata)
    watched = batch_pb2.WatchBatchRequest(batch_id=answer.batch.batch_id)
    async for _ in mix.client.processing.WatchBatch(watched, metadata=mix.client.metadata):
        pass


async def _process(mix: _Mix) -> None:
    request = postprocessing_pb2.ProcessImageRequest()
    request.image.artifact_id = mix.one_of(mix.pictures)
    size = request.steps.add().resize
    size.width = size.height = 48
    call = mix.client.postprocessing.ProcessImage(request, metadata=mix.client.metadata)
    async for _ in call:
        pass


async def _download(mix: _Mix) -> None:
    request = artifact_pb2.DownloadArtifactRequest(artifact_id=mix.one_of(mix.pictures))
    async for _ in mix.client.artifact.DownloadArtifact(request, metadata=mix.client.metadata):
        pass


async def _watch(mix: _Mix) -> None:
    request = processing_pb2.GetSessionRequest(session_id=mix.one_of(mix.sessions))
    found = await mix.client.processing.GetSession(request, metadata=mix.client.metadata)
    watch = processing_pb2.WatchSessionRequest(
        session_id=request.session_id, from_sequence=found.session.first_sequence
    )
    async for _ in mix.client.processing.WatchSession(watch, metadata=mix.client.metadata):
        pass


async def _delete(mix: _Mix) -> None:
    if mix.sessions:
        request = processing_pb2.DeleteSessionRequest(session_id=mix.sessions.pop(0))
        await mix.call(mix.client.processing.DeleteSession, request)


async def _lend(mix: _Mix) -> None:
    request = memory_pb2.CreateAllocationRequest(
        place=memory_info_pb2.MemoryPlace(device_id=_DEVICE), size_bytes=MIB
    )
    answer = await mix.client.memory.CreateAllocation(request, metadata=mix.client.metadata)
    gone = memory_pb2.DeleteAllocationRequest(allocation_id=answer.allocation.allocation_id)
    await mix.call(mix.client.memory.DeleteAllocation, gone)


async def _validate(mix: _Mix) -> None:
    request = inference_pb2.ValidateGenerationRequest(request=mix.asked())
    await mix.call(mix.client.inference.ValidateGeneration, request)


async def _ask(mix: _Mix) -> None:
    """Something that only reads."""
    client = mix.client
    method, request = mix.chances.choice(
        [
            (client.processing.ListSessions, processing_pb2.ListSessionsRequest()),
            (client.processing.ListQueue, processing_pb2.ListQueueRequest()),
            (client.processing.ListBatches, batch_pb2.ListBatchesRequest()),
            (client.artifact.ListArtifacts, artifact_pb2.ListArtifactsRequest()),
            (client.device.ListDevices, device_pb2.ListDevicesRequest()),
            (
                client.device.GetDeviceStatus,
                device_pb2.GetDeviceStatusRequest(device_id=_DEVICE),
            ),
            (client.memory.GetMemoryStatus, memory_pb2.GetMemoryStatusRequest()),
            (client.model.ListModels, model_pb2.ListModelsRequest()),
            (client.inference.GetCapabilities, inference_pb2.GetCapabilitiesRequest()),
            (
                client.inference.GetInferenceStatistics,
                inference_pb2.GetInferenceStatisticsRequest(),
            ),
            (client.system.GetServerInfo, system_pb2.GetServerInfoRequest()),
        ]
    )
    await mix.call(method, request)


_KINDS: Mapping[str, tuple[int, Callable[[_Mix], Awaitable[None]]]] = {
    "generations": (15, _generate),
    "generations that are left": (3, _leave),
    "batches of three": (2, _batch),
    "pictures that are finished": (5, _process),
    "downloads": (10, _download),
    "watches": (10, _watch),
    "deletions of sessions": (5, _delete),
    "memory, lent and given back": (5, _lend),
    "validations": (10, _validate),
    "questions": (35, _ask),
}


async def _send(mix: _Mix, count: int, until: float) -> int:
    """Send so many, or fewer where the time is over before; how many."""
    left = count

    async def lane() -> None:
        nonlocal left
        while left > 0 and time.monotonic() < until:
            left -= 1
            await mix.one()

    await asyncio.gather(*(lane() for _ in range(_LANES)))
    return count - left


async def _measured(
    running: RunningServer, count: int, seconds: float
) -> tuple[list[tuple[str, Usage]], int, float, _Mix]:
    """What the server took after each quarter, how many were sent, in how long."""
    async with running.client() as client:
        mix = _Mix(client, random.Random(0))
        await warmed(client)
        began = time.monotonic()
        await _send(mix, int(count * _WARM_SHARE), began + seconds * _WARM_SHARE)
        await asyncio.sleep(1.0)
        looks = [("before", usage_of(running.process.pid))]
        sent, begun = 0, time.monotonic()
        for quarter in range(1, 5):
            until = begun + (seconds - (begun - began)) * quarter / 4
            sent += await _send(mix, count // 4, until)
            await asyncio.sleep(1.0)
            looks.append((f"after {sent}", usage_of(running.process.pid)))
        return looks, sent, time.monotonic() - begun, mix


def measure(count: int, seconds: float) -> Section:
    """Send so many requests, for so many seconds at most."""
    with tiny_server() as running:
        looks, sent, took, mix = asyncio.run(_measured(running, count, seconds))
    rows = [
        (name, f"{usage.front_bytes / MIB:.1f}", f"{usage.workers_bytes / MIB:.1f}")
        for name, usage in looks
    ]
    grown = looks[-1][1].since(looks[0][1])
    kinds = ", ".join(f"{each} {name}" for name, each in sorted(mix.sent.items()))
    return Section(
        NAME,
        f"{sent} requests of {_LANES} callers at once, at most {seconds:.0f} s of them.",
        [("requests", "front, MiB", "worker, MiB"), *rows],
        [
            Goal("growth of the front", _MOST_MIB, grown.front_bytes / MIB, "MiB"),
            Goal("growth of the worker", _MOST_MIB, grown.workers_bytes / MIB, "MiB"),
        ],
        [
            f"{sent / took:.0f} requests a second; with those before it was counted: {kinds}",
            f"refused because the thing was gone: {sum(mix.refused.values())}",
        ],
    )
