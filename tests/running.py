"""Real server processes for tests, and a client of the public contract."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from deviceops.v1 import (
    artifact_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    event_pb2,
    generation_pb2,
    inference_pb2,
    inference_pb2_grpc,
    memory_pb2_grpc,
    model_pb2_grpc,
    postprocessing_pb2_grpc,
    processing_pb2_grpc,
    system_pb2_grpc,
)
from domains.clients import Role
from server.token_list import TokenFiles

START_SECONDS = 60.0
STOP_SECONDS = 60.0


class ServerEnded(AssertionError):
    """A server that was launched does not serve."""


@dataclass(frozen=True)
class RunningServer:
    """A server process: where it answers and what it needs to hear."""

    address: str
    token: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    log_path: Path

    def client(self, token: str | None = None) -> Client:
        """A client with the first token, or with another."""
        return Client(self.address, token or self.token)

    async def named(self, name: str, role: Role = Role.RUN) -> str:
        """The token of a client of that name, made now; the server has taken it up."""
        files = TokenFiles(self.data_dir / "runtime" / "token")
        token = await asyncio.to_thread(files.add, name, role)
        async with self.client(token) as client:
            for _ in range(200):
                if await _accepted(client):
                    return token
                await asyncio.sleep(0.05)
        raise AssertionError("the server did not take the token up")

    def revoke(self, name: str) -> None:
        """Take that client's token out of the list; the server notices by itself."""
        TokenFiles(self.data_dir / "runtime" / "token").revoke(name)

    def log(self) -> str:
        """What the server has written so far."""
        return self.log_path.read_text()


async def _accepted(client: Client) -> bool:
    try:
        request = device_pb2.ListDevicesRequest()
        await client.device.ListDevices(request, metadata=client.metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


def launch(
    data_dir: Path,
    *flags: str,
    program: str = "server",
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server on free ports; its output goes to `data_dir`/server.log.

    Args:
        data_dir: Of the server.
        flags: More options of `deviceops serve`.
        program: The module that is run.
        environment: What it has beside this process's own.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    if "--preload" not in flags:
        flags = (*flags, "--no-preload")  # nothing that the test does not ask for
    with (data_dir / "server.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", program, "--data-dir", str(data_dir)),
                *("--port", "0", "--metrics-port", "0", "--log-format", "json", *flags),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
            env={**os.environ, **(environment or {})},  # noqa: TID251  the tests' own
        )


def wait_for_address(process: subprocess.Popen[bytes], data_dir: Path) -> str:
    """The address a launched server wrote down when its port was bound."""
    port_file = data_dir / "runtime" / "server.json"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if port_file.exists():
            location = json.loads(port_file.read_text())
            if location["pid"] == process.pid:
                return str(location["address"])
        time.sleep(0.02)
    raise ServerEnded("the server did not start:\n" + (data_dir / "server.log").read_text())


@contextmanager
def start_server(
    data_dir: Path, *flags: str, program: str = "server"
) -> Iterator[RunningServer]:
    """A server from start to drained end; a server that does not end is a failure."""
    process = launch(data_dir, *flags, program=program)
    try:
        address = wait_for_address(process, data_dir)
        token_file = data_dir / "runtime" / "token"
        token = token_file.read_text().strip() if token_file.exists() else ""
        yield RunningServer(address, token, data_dir, process, data_dir / "server.log")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the server did not drain") from None


class Client:
    """Stubs of every service on one channel, and the token to send with each call."""

    def __init__(self, address: str, token: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {token}"),)
        self.device = device_pb2_grpc.DeviceServiceStub(self.channel)
        self.memory = memory_pb2_grpc.MemoryServiceStub(self.channel)
        self.model = model_pb2_grpc.ModelServiceStub(self.channel)
        self.processing = processing_pb2_grpc.ProcessingServiceStub(self.channel)
        self.inference = inference_pb2_grpc.InferenceServiceStub(self.channel)
        self.postprocessing = postprocessing_pb2_grpc.PostprocessingServiceStub(self.channel)
        self.artifact = artifact_pb2_grpc.ArtifactServiceStub(self.channel)
        self.system = system_pb2_grpc.SystemServiceStub(self.channel)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.channel.close()

    def generate(
        self, request: inference_pb2.GenerateRequest, **call: Any
    ) -> grpc.aio.UnaryStreamCall[
        inference_pb2.GenerateRequest, inference_pb2.GenerateResponse
    ]:
        """Start a generation."""
        return self.inference.Generate(request, metadata=self.metadata, **call)

    async def draw(
        self, request: inference_pb2.GenerateRequest
    ) -> tuple[list[event_pb2.SessionEvent], dict[int, bytes]]:
        """Run a generation to its end: every event, and each picture's file."""
        events: list[event_pb2.SessionEvent] = []
        chunks: dict[int, list[bytes]] = {}
        async for response in self.generate(request):
            event = response.event
            events.append(event)
            if event.WhichOneof("event") == "image_chunk":
                chunk = event.image_chunk
                chunks.setdefault(chunk.image_index, []).append(chunk.data)
        return events, {index: b"".join(each) for index, each in chunks.items()}


def small_request(
    prompt: str = "a red apple on a blue background", **settings: Any
) -> inference_pb2.GenerateRequest:
    """A quick generation: 256x256, few steps, a fixed seed unless told otherwise."""
    chosen: dict[str, Any] = {"width": 256, "height": 256, "steps": 2, "seed": 7} | settings
    return inference_pb2.GenerateRequest(
        settings=generation_pb2.GenerationSettings(prompt=prompt, **chosen)
    )


def alive(process_id: int) -> bool:
    """Whether a process of that id runs (a zombie does not)."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process_id}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
