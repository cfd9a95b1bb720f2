"""What ProcessingService does about batches, on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import batch_pb2, processing_pb2_grpc
from domains.clients import caller
from domains.processing.batches import convert
from domains.processing.batches.core.batches import Batches
from domains.processing.batches.core.control import BatchControl
from domains.session.convert import SessionConverter, Starters, checked_delivery
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True)
class BatchParts:
    """What calls about batches are answered with."""

    batches: Batches
    control: BatchControl
    starters: Starters
    runner: SessionRunner
    reader: SessionReader
    converter: SessionConverter


class BatchCalls(processing_pb2_grpc.ProcessingServiceServicer):
    """The calls about batches.

    Args:
        batches: What answers them.
    """

    def __init__(self, batches: BatchParts) -> None:
        self._of_batches = batches

    async def CreateBatch(
        self, request: batch_pb2.CreateBatchRequest, context: Context
    ) -> batch_pb2.CreateBatchResponse:
        parts, viewer = self._of_batches, caller()
        wanted = parts.starters.request_of(request)
        session = await parts.runner.begin(replace(wanted, owner=viewer.name))
        batch = await parts.batches.made(session)
        return batch_pb2.CreateBatchResponse(batch=convert.batch_to_proto(batch.status(viewer)))

    async def AddBatchItems(
        self, request: batch_pb2.AddBatchItemsRequest, context: Context
    ) -> batch_pb2.AddBatchItemsResponse:
        works = convert.items_from_proto(request.items)
        batch = await self._of_batches.control.add(
            request.batch_id, works, caller(), seal=request.seal
        )
        return batch_pb2.AddBatchItemsResponse(batch=convert.batch_to_proto(batch))

    async def GetBatch(
        self, request: batch_pb2.GetBatchRequest, context: Context
    ) -> batch_pb2.GetBatchResponse:
        batch, items = await self._of_batches.control.get(
            request.batch_id,
            caller(),
            convert.states_from_proto(request.item_states, "item_states"),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = items.converted(convert.item_to_proto)
        return batch_pb2.GetBatchResponse(
            batch=convert.batch_to_proto(batch),
            items=page.items,
            next_page_token=page.next_page_token,
        )

    async def ListBatches(
        self, request: batch_pb2.ListBatchesRequest, context: Context
    ) -> batch_pb2.ListBatchesResponse:
        found = self._of_batches.control.list(
            convert.filter_from_proto(request),
            caller(),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(convert.batch_to_proto)
        return batch_pb2.ListBatchesResponse(
            batches=page.items, next_page_token=page.next_page_token
        )

    def WatchBatch(
        self, request: batch_pb2.WatchBatchRequest, context: Context
    ) -> AsyncIterator[batch_pb2.WatchBatchResponse]:
        parts = self._of_batches
        delivery = checked_delivery(request.delivery, "delivery")
        session = parts.batches.get(request.batch_id, caller()).session
        events = parts.reader.events(session, request.from_sequence, delivery=delivery)
        return parts.converter.responses(events, batch_pb2.WatchBatchResponse)

    async def PauseBatch(
        self, request: batch_pb2.PauseBatchRequest, context: Context
    ) -> batch_pb2.PauseBatchResponse:
        batch = await self._of_batches.control.pause(
            request.batch_id, caller(), request.reason_text
        )
        return batch_pb2.PauseBatchResponse(batch=convert.batch_to_proto(batch))

    async def ResumeBatch(
        self, request: batch_pb2.ResumeBatchRequest, context: Context
    ) -> batch_pb2.ResumeBatchResponse:
        batch = await self._of_batches.control.resume(request.batch_id, caller())
        return batch_pb2.ResumeBatchResponse(batch=convert.batch_to_proto(batch))

    async def CancelBatch(
        self, request: batch_pb2.CancelBatchRequest, context: Context
    ) -> batch_pb2.CancelBatchResponse:
        batch = await self._of_batches.control.cancel(
            request.batch_id, caller(), request.reason_text
        )
        return batch_pb2.CancelBatchResponse(batch=convert.batch_to_proto(batch))

    async def RetryBatchItems(
        self, request: batch_pb2.RetryBatchItemsRequest, context: Context
    ) -> batch_pb2.RetryBatchItemsResponse:
        batch, retried = await self._of_batches.control.retry(
            request.batch_id, request.item_ids, caller()
        )
        return batch_pb2.RetryBatchItemsResponse(
            batch=convert.batch_to_proto(batch), retried_count=retried
        )

    async def DeleteBatch(
        self, request: batch_pb2.DeleteBatchRequest, context: Context
    ) -> batch_pb2.DeleteBatchResponse:
        await self._of_batches.control.delete(request.batch_id, caller())
        return batch_pb2.DeleteBatchResponse()
