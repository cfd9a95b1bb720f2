"""Short forms of the calls that lend memory."""

from __future__ import annotations

from typing import Any

from deviceops.v1 import memory_info_pb2, memory_pb2
from tests.running import Client

MIB = 1 << 20
HOST = memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory())
CPU = memory_info_pb2.MemoryPlace(device_id="cpu:0")


async def lend(
    client: Client, place: memory_info_pb2.MemoryPlace, size: int, **more: Any
) -> str:
    request = memory_pb2.CreateAllocationRequest(place=place, size_bytes=size, **more)
    made = await client.memory.CreateAllocation(request, metadata=client.metadata)
    return str(made.allocation.allocation_id)


async def free(client: Client, allocation_id: str) -> int:
    request = memory_pb2.DeleteAllocationRequest(allocation_id=allocation_id)
    done = await client.memory.DeleteAllocation(request, metadata=client.metadata)
    return int(done.freed_bytes)
