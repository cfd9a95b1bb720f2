"""MemoryService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import memory_history_pb2, memory_pb2, memory_pb2_grpc
from domains.clients import caller
from domains.conversions import converted, given
from domains.memory.convert import leases, status, upkeep
from domains.memory.core import MemoryService
from domains.session.convert import SessionStreams, Starters
from domains.upload_conversions import opening, parts_from_proto

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class MemoryServicer(memory_pb2_grpc.MemoryServiceServicer):
    """What memory there is, how tight it is, leases of it, and advice about it."""

    def __init__(self, core: MemoryService, streams: SessionStreams) -> None:
        self._core = core
        self._streams = streams
        self._readings = status.ReadingConverter()

    def register(self, starters: Starters) -> None:
        """Have it known how requests that start sessions become those."""
        core, know = self._core, starters.know
        know(
            memory_pb2.DefragmentRequest, upkeep.defragment_from_proto, core.defragmentation.run
        )
        know(memory_pb2.EvictModelsRequest, upkeep.eviction_from_proto, core.models.evict)

    async def GetMemoryStatus(
        self, request: memory_pb2.GetMemoryStatusRequest, context: Context
    ) -> memory_pb2.GetMemoryStatusResponse:
        now = await self._core.monitor.status(request.device_id)
        return memory_pb2.GetMemoryStatusResponse(status=status.status_to_proto(now))

    def WatchMemory(
        self, request: memory_pb2.WatchMemoryRequest, context: Context
    ) -> AsyncIterator[memory_pb2.WatchMemoryResponse]:
        readings = self._core.watch.stream(
            request.device_id,
            interval=given(request, "interval"),
            pressure_only=request.pressure_only,
        )
        return converted(readings, self._readings.to_proto)

    async def GetMemoryPressure(
        self, request: memory_pb2.GetMemoryPressureRequest, context: Context
    ) -> memory_pb2.GetMemoryPressureResponse:
        pressures = await self._core.watch.ask(request.device_id)
        return status.pressures_to_proto(pressures, self._core.watch.thresholds)

    async def CreateAllocation(
        self, request: memory_pb2.CreateAllocationRequest, context: Context
    ) -> memory_pb2.CreateAllocationResponse:
        wanted = leases.allocation_request_from_proto(request)
        allocation = await self._core.leases.create(caller(), wanted)
        return memory_pb2.CreateAllocationResponse(
            allocation=leases.allocation_to_proto(allocation)
        )

    async def DeleteAllocation(
        self, request: memory_pb2.DeleteAllocationRequest, context: Context
    ) -> memory_pb2.DeleteAllocationResponse:
        freed = await self._core.leases.delete(caller(), request.allocation_id)
        return memory_pb2.DeleteAllocationResponse(freed_bytes=freed)

    async def RenewLeases(
        self, request: memory_pb2.RenewLeasesRequest, context: Context
    ) -> memory_pb2.RenewLeasesResponse:
        ids, lease = request.allocation_ids, given(request, "lease")
        renewed = self._core.leases.renew(caller(), ids, lease)
        return memory_pb2.RenewLeasesResponse(
            allocations=[leases.allocation_to_proto(allocation) for allocation in renewed]
        )

    async def ListAllocations(
        self, request: memory_pb2.ListAllocationsRequest, context: Context
    ) -> memory_pb2.ListAllocationsResponse:
        page = await self._core.leases.list(
            caller(),
            leases.place_from_proto(request.place),
            owner=request.owner,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return leases.listing_to_proto(page, self._core.leases.reconcile())

    async def WriteAllocation(
        self,
        request_iterator: AsyncIterator[memory_pb2.WriteAllocationRequest],
        context: Context,
    ) -> memory_pb2.WriteAllocationResponse:
        header = leases.write_from_proto(await opening(request_iterator))
        parts = parts_from_proto(request_iterator)
        written = await self._core.access.write(caller(), header, parts)
        return memory_pb2.WriteAllocationResponse(written_bytes=written)

    def ReadAllocation(
        self, request: memory_pb2.ReadAllocationRequest, context: Context
    ) -> AsyncIterator[memory_pb2.ReadAllocationResponse]:
        chunks = self._core.access.read(
            caller(),
            request.allocation_id,
            request.offset_bytes,
            request.length_bytes,
        )
        return converted(chunks, leases.chunk_to_proto)

    def CopyAllocation(
        self, request: memory_pb2.CopyAllocationRequest, context: Context
    ) -> AsyncIterator[memory_pb2.CopyAllocationResponse]:
        wanted = self._core.copies.copy(caller(), leases.copy_from_proto(request))
        return self._streams.run(
            wanted, context, memory_pb2.CopyAllocationResponse, request.delivery
        )

    def TransferAllocation(
        self, request: memory_pb2.TransferAllocationRequest, context: Context
    ) -> AsyncIterator[memory_pb2.TransferAllocationResponse]:
        wanted = self._core.copies.transfer(caller(), leases.transfer_from_proto(request))
        return self._streams.run(
            wanted, context, memory_pb2.TransferAllocationResponse, request.delivery
        )

    def Defragment(
        self, request: memory_pb2.DefragmentRequest, context: Context
    ) -> AsyncIterator[memory_pb2.DefragmentResponse]:
        return self._streams.start(request, context, memory_pb2.DefragmentResponse)

    async def GetModelMemory(
        self, request: memory_pb2.GetModelMemoryRequest, context: Context
    ) -> memory_pb2.GetModelMemoryResponse:
        held = await self._core.models.held(request.model_id, request.device_id)
        return memory_pb2.GetModelMemoryResponse(
            components=[upkeep.component_to_proto(one) for one in held]
        )

    def EvictModels(
        self, request: memory_pb2.EvictModelsRequest, context: Context
    ) -> AsyncIterator[memory_pb2.EvictModelsResponse]:
        return self._streams.start(request, context, memory_pb2.EvictModelsResponse)

    async def GetMemoryAnalytics(
        self, request: memory_history_pb2.GetMemoryAnalyticsRequest, context: Context
    ) -> memory_history_pb2.GetMemoryAnalyticsResponse:
        histories = await self._core.recorder.analytics(
            request.device_id,
            window=given(request, "window"),
            points=int(given(request, "points")),
        )
        return memory_history_pb2.GetMemoryAnalyticsResponse(
            histories=[upkeep.history_to_proto(history) for history in histories]
        )

    async def GetMemoryRecommendations(
        self, request: memory_history_pb2.GetMemoryRecommendationsRequest, context: Context
    ) -> memory_history_pb2.GetMemoryRecommendationsResponse:
        found = await self._core.adviser.recommendations(request.device_id)
        return upkeep.recommendations_to_proto(found)
