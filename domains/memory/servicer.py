"""MemoryService on the wire."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import memory_pb2, memory_pb2_grpc
from domains.memory import convert
from domains.memory.core import MemoryMonitor

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class MemoryServicer(memory_pb2_grpc.MemoryServiceServicer):
    """What memory there is; the rest is answered by the generated base."""

    def __init__(self, monitor: MemoryMonitor) -> None:
        self._monitor = monitor

    async def GetMemoryStatus(
        self, request: memory_pb2.GetMemoryStatusRequest, context: Context
    ) -> memory_pb2.GetMemoryStatusResponse:
        status = await self._monitor.status(request.device_id)
        return memory_pb2.GetMemoryStatusResponse(status=convert.status_to_proto(status))
