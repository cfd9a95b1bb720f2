"""An application of the generated base servicers, whose start and stop tests can steer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from deviceops.v1 import (
    artifact_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    inference_pb2_grpc,
    memory_pb2_grpc,
    model_pb2_grpc,
    postprocessing_pb2_grpc,
    processing_pb2_grpc,
    system_pb2_grpc,
)
from server import serve, token
from server.config import Settings


class Devices(device_pb2_grpc.DeviceServiceServicer):  # type: ignore[misc]
    """Answers at once, holds on until told, or watches for ever.

    A watch sends a second answer as soon as a call is held.
    """

    def __init__(self) -> None:
        self.held = asyncio.Event()
        self.released = asyncio.Event()
        self.watching = asyncio.Event()

    async def ListDevices(self, request: Any, context: Any) -> device_pb2.ListDevicesResponse:
        return device_pb2.ListDevicesResponse(default_device_id="cpu:0")

    async def GetDevice(self, request: Any, context: Any) -> device_pb2.GetDeviceResponse:
        self.held.set()
        await self.released.wait()
        return device_pb2.GetDeviceResponse()

    async def WatchDevices(
        self, request: Any, context: Any
    ) -> AsyncIterator[device_pb2.WatchDevicesResponse]:
        yield device_pb2.WatchDevicesResponse()
        self.watching.set()
        await self.held.wait()
        yield device_pb2.WatchDevicesResponse()
        await asyncio.Event().wait()


@dataclass
class SteeredApp:
    """Implements `server.app.App`; `log` tells what was asked of it, in order."""

    device: Devices = field(default_factory=Devices)
    memory: Any = field(default_factory=memory_pb2_grpc.MemoryServiceServicer)
    model: Any = field(default_factory=model_pb2_grpc.ModelServiceServicer)
    processing: Any = field(default_factory=processing_pb2_grpc.ProcessingServiceServicer)
    inference: Any = field(default_factory=inference_pb2_grpc.InferenceServiceServicer)
    postprocessing: Any = field(
        default_factory=postprocessing_pb2_grpc.PostprocessingServiceServicer
    )
    artifact: Any = field(default_factory=artifact_pb2_grpc.ArtifactServiceServicer)
    system: Any = field(default_factory=system_pb2_grpc.SystemServiceServicer)
    log: list[str] = field(default_factory=list)
    graces: list[float] = field(default_factory=list)
    start_error: Exception | None = None
    stop_error: Exception | None = None
    stop_hangs: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.log.append("start")
        if self.start_error:
            raise self.start_error

    def drain(self) -> None:
        self.log.append("drain")

    async def stop(self, grace_seconds: float) -> None:
        self.log.append("stop")
        self.graces.append(grace_seconds)
        self.stopping.set()
        if self.stop_error:
            raise self.stop_error
        if self.stop_hangs and grace_seconds > 0:
            await asyncio.Event().wait()


@dataclass
class Running:
    """A server in this process, and a channel that sends its token."""

    ready: serve.Ready
    channel: grpc.aio.Channel
    exit_code: asyncio.Task[int]
    devices: device_pb2_grpc.DeviceServiceAsyncStub
    metadata: list[tuple[str, str]]

    async def stopped(self) -> int:
        """Ask it to stop and wait for its exit code."""
        self.ready.stop()
        return await asyncio.wait_for(self.exit_code, 30)


@contextlib.asynccontextmanager
async def running(settings: Settings, app: SteeredApp) -> AsyncIterator[Running]:
    """`server.serve.run` around the app, ready to be called."""
    told: asyncio.Future[serve.Ready] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(
        serve.run(settings, compose=lambda _: app, ready=told.set_result)
    )
    either: set[asyncio.Future[Any]] = {task, told}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert told.done(), f"it ended with {task.result()}"
    ready = told.result()
    metadata: list[tuple[str, str]] = []
    if settings.auth:
        metadata = [("authorization", f"Bearer {token.read(settings.token_path)}")]
    try:
        async with grpc.aio.insecure_channel(ready.address) as channel:
            stub: Any = device_pb2_grpc.DeviceServiceStub(channel)
            yield Running(ready, channel, task, stub, metadata)
    finally:
        ready.stop()
        ready.stop()
        await asyncio.wait({task}, timeout=20)
