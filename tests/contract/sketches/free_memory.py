"""Make room on a device before something large."""

from __future__ import annotations

import grpc.aio

from deviceops.v1.memory_info_pb2 import MemoryPlace, ModelEvictionReport
from deviceops.v1.memory_pb2 import EvictModelsRequest
from deviceops.v1.memory_pb2_grpc import MemoryServiceStub


async def free_to_target(
    channel: grpc.aio.Channel, device_id: str, target_free_bytes: int
) -> ModelEvictionReport:
    """Evict models until so much is free; the report says which and whether it sufficed."""
    report = ModelEvictionReport()
    request = EvictModelsRequest(
        place=MemoryPlace(device_id=device_id), target_free_bytes=target_free_bytes
    )
    async for response in MemoryServiceStub(channel).EvictModels(request):
        if response.event.WhichOneof("event") == "completed":
            report = response.event.completed.eviction
    return report
