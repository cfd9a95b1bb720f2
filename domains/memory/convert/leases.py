"""Leases, reads, writes and copies between proto and domain values."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import memory_info_pb2, memory_pb2
from domains.conversions import byte_figure, digest, given, timestamp
from domains.memory.convert.status import place_to_proto
from domains.memory.types import (
    Allocation,
    AllocationRequest,
    CopyRequest,
    Place,
    ReadChunk,
    Reconciliation,
    TransferRequest,
    WriteHeader,
)
from domains.paging import Page
from domains.session.convert import options_from_proto
from domains.upload_conversions import header_from_proto


def place_from_proto(message: memory_info_pb2.MemoryPlace) -> Place | None:
    """Where bytes shall lie, unchecked; None when the message names nothing."""
    match message.WhichOneof("place"):
        case "host":
            return Place(pinned=message.host.pinned)
        case "device_id":
            # An empty id is a badly named device, and not main memory.
            return Place(message.device_id or " ")
        case _:
            return None


def allocation_to_proto(allocation: Allocation) -> memory_pb2.Allocation:
    """Memory that a client holds."""
    return memory_pb2.Allocation(
        allocation_id=allocation.allocation_id,
        label=allocation.label,
        place=place_to_proto(allocation.place),
        size_bytes=allocation.size_bytes,
        create_time=timestamp(allocation.create_time),
        lease_expire_time=timestamp(allocation.lease_expire_time),
        owner=allocation.owner,
    )


def allocation_request_from_proto(
    message: memory_pb2.CreateAllocationRequest,
) -> AllocationRequest:
    """What a client wants to have allocated, unchecked."""
    return AllocationRequest(
        place=place_from_proto(message.place),
        size_bytes=message.size_bytes,
        lease_seconds=given(message, "lease"),
        label=message.label,
        zeroed=message.zeroed,
        request_id=message.request_id,
    )


def listing_to_proto(
    page: Page[Allocation], reconciliations: Sequence[Reconciliation]
) -> memory_pb2.ListAllocationsResponse:
    """One page of allocations, and the ledger against the allocators."""
    allocations = page.converted(allocation_to_proto)
    return memory_pb2.ListAllocationsResponse(
        allocations=allocations.items,
        next_page_token=allocations.next_page_token,
        reconciliations=[
            memory_pb2.LedgerReconciliation(
                place=place_to_proto(one.place),
                ledger_bytes=one.ledger_bytes,
                allocator=byte_figure(one.allocator),
            )
            for one in reconciliations
        ],
    )


def write_from_proto(message: memory_pb2.AllocationUpload) -> WriteHeader:
    """Where the bytes of a write go.

    Raises:
        UploadInvalid: The upload's header breaks a rule.
    """
    return WriteHeader(
        message.allocation_id,
        message.target_offset_bytes,
        header_from_proto(message.upload, "header.upload"),
    )


def chunk_to_proto(chunk: ReadChunk) -> memory_pb2.ReadAllocationResponse:
    """Bytes of an allocation."""
    return memory_pb2.ReadAllocationResponse(
        offset_bytes=chunk.offset, data=chunk.data, sha256=chunk.sha256
    )


def copy_from_proto(message: memory_pb2.CopyAllocationRequest) -> CopyRequest:
    """What to copy where, unchecked."""
    return CopyRequest(
        source_id=message.source_allocation_id,
        target_id=message.target_allocation_id,
        source_offset=message.source_offset_bytes,
        target_offset=message.target_offset_bytes,
        length=message.length_bytes,
        verify=not message.skip_verification,
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def transfer_from_proto(message: memory_pb2.TransferAllocationRequest) -> TransferRequest:
    """What to move where, unchecked."""
    return TransferRequest(
        allocation_id=message.allocation_id,
        place=place_from_proto(message.place),
        verify=not message.skip_verification,
        options=options_from_proto(message.options),
        digest=digest(message),
    )
