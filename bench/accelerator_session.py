"""What the steps of `bench.accelerator_memory` share: the client and the report."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]

from bench.client import PRECISIONS
from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    generation_pb2,
    inference_pb2,
    memory_info_pb2,
    memory_pb2,
)
from tests.running import Client

GIB, MIB = 1 << 30, 1 << 20


@dataclass
class Session:
    """A client, the device it is about, and the report so far."""

    client: Client
    device_id: str
    lines: list[str]

    @property
    def place(self) -> memory_info_pb2.MemoryPlace:
        """The device's memory."""
        return memory_info_pb2.MemoryPlace(device_id=self.device_id)

    def say(self, line: str) -> None:
        """Print a line of the report and keep it."""
        self.lines.append(line)
        print(line, flush=True)

    async def allocate(self, place: memory_info_pb2.MemoryPlace, size: int) -> str:
        """Lent memory; its id."""
        request = memory_pb2.CreateAllocationRequest(place=place, size_bytes=size)
        request.lease.FromSeconds(600)
        answer = await self.client.memory.CreateAllocation(
            request, metadata=self.client.metadata
        )
        return str(answer.allocation.allocation_id)

    async def free(self, *allocation_ids: str) -> None:
        """Give memory back."""
        for allocation_id in allocation_ids:
            await self.client.memory.DeleteAllocation(
                memory_pb2.DeleteAllocationRequest(allocation_id=allocation_id),
                metadata=self.client.metadata,
            )

    async def memory(self) -> device_info_pb2.DeviceMemory:
        """The device's figures."""
        answer = await self.client.device.GetDeviceMemory(
            device_pb2.GetDeviceMemoryRequest(device_id=self.device_id),
            metadata=self.client.metadata,
        )
        return answer.memory

    async def draw(self, edge: int, precision: str = "exact", steps: int = 4) -> str:
        """Draw a square picture; what it was degraded by, or "as asked"."""
        request = inference_pb2.GenerateRequest(
            settings=generation_pb2.GenerationSettings(
                prompt="a red apple on a blue background",
                width=edge,
                height=edge,
                steps=steps,
                seed=7,
            )
        )
        if precision in PRECISIONS:
            request.settings.precision.mode = PRECISIONS[precision]
        call = self.client.inference.Generate(request, metadata=self.client.metadata)
        degraded = "as asked"
        async for response in call:
            if response.event.WhichOneof("event") == "completed":
                kinds = [
                    common_pb2.DegradationKind.Name(one.kind)
                    for one in response.event.completed.degradations
                ]
                degraded = ", ".join(kinds) or degraded
        return degraded


def refusal(error: grpc.aio.AioRpcError) -> str:
    """An error with its reason and facts, on one line."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            facts = ", ".join(f"{name}={value}" for name, value in info.metadata.items())
            return f"{error.code().name} {info.reason} ({facts})"
    return f"{error.code().name}: {error.details()}"


def figure(value: common_pb2.ByteFigure) -> str:
    """A number of bytes with its quality and source."""
    quality = common_pb2.FigureQuality.Name(value.quality).removeprefix("FIGURE_QUALITY_")
    size = f"{value.value_bytes / GIB:.3f} GiB" if value.HasField("value_bytes") else "-"
    return f"{size} ({quality.lower()}: {value.source})"
