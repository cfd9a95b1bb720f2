"""Sketches of clients beside each other: what each sees, of however many sessions, and for how
long. Over a real channel to a real server with a real worker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from deviceops.v1.artifact_pb2 import (
    ListArtifactsRequest,
)
from deviceops.v1.artifact_pb2_grpc import ArtifactServiceStub
from deviceops.v1.inference_pb2 import GenerateRequest
from deviceops.v1.inference_pb2_grpc import InferenceServiceStub
from deviceops.v1.memory_info_pb2 import HostMemory, MemoryPlace
from deviceops.v1.memory_pb2 import CreateAllocationRequest, ListAllocationsRequest
from deviceops.v1.memory_pb2_grpc import MemoryServiceStub
from deviceops.v1.processing_pb2 import (
    CancelSessionRequest,
    CancelSessionsRequest,
    DeleteSessionRequest,
    GetSessionRequest,
    SessionFilter,
    WatchSessionRequest,
)
from deviceops.v1.processing_pb2_grpc import ProcessingServiceStub
from deviceops.v1.session_pb2 import (
    ON_DISCONNECT_DETACH,
    SESSION_VIEW_FULL,
)
from tests.contract.sketches.connect import connect
from tests.contract.sketches.pictures import Pictures
from tests.contract.sketches.sessions import list_all
from tests.e2e.errors import refusal_of
from tests.running import RunningServer, small_request

PATIENCE_SECONDS = 60.0
MESSAGE_BYTES = 4 * 2**20
MOST_AT_ONCE = 30


async def test_two_clients_do_not_see_each_other(server: RunningServer) -> None:
    ann, bob = await server.named("sketch-ann"), await server.named("sketch-bob")
    async with connect(server.address, ann) as anns, connect(server.address, bob) as bobs:
        request = small_request(steps=1)
        request.options.request_id = str(uuid4())
        mine, theirs = Pictures(), Pictures()
        for channel, pictures in ((anns, mine), (bobs, theirs)):
            ids = set()
            async for response in InferenceServiceStub(channel).Generate(request):
                pictures.add(response.event)
                ids.add(response.event.session_id)
                assert not response.event.accepted.existing
            (session_id,) = ids
        # The same bits, of two sessions: a request id is its client's own.
        assert mine.files == theirs.files
        await _sees_nothing_of(anns, session_id)
        owners = [s.owner for page in await list_all(bobs) for s in page]
        assert set(owners) == {"sketch-bob"}
        place = MemoryPlace(host=HostMemory())
        held = await MemoryServiceStub(bobs).CreateAllocation(
            CreateAllocationRequest(place=place, size_bytes=1)
        )
        assert held.allocation.owner == "sketch-bob"
        seen = await MemoryServiceStub(anns).ListAllocations(ListAllocationsRequest())
        assert not seen.allocations


async def _sees_nothing_of(channel: grpc.aio.Channel, session_id: str) -> None:
    processing = ProcessingServiceStub(channel)
    watch = processing.WatchSession(WatchSessionRequest(session_id=session_id))
    for call in (
        processing.GetSession(GetSessionRequest(session_id=session_id)),
        processing.CancelSession(CancelSessionRequest(session_id=session_id)),
        processing.DeleteSession(DeleteSessionRequest(session_id=session_id)),
        watch.read(),
    ):
        refused = await refusal_of(call)
        assert refused.reason == "SESSION_NOT_FOUND"
    listed = [s.session_id for page in await list_all(channel) for s in page]
    assert session_id not in listed
    artifacts = await ArtifactServiceStub(channel).ListArtifacts(
        ListArtifactsRequest(session_id=session_id)
    )
    assert not artifacts.artifacts


@pytest.mark.demonstration
async def test_a_thousand_sessions_are_listed(server: RunningServer) -> None:
    token = await server.named("sketch-thousand")
    async with connect(server.address, token) as channel:
        ids = [id_ for _ in range(40) for id_ in await _leave(channel, 25, small_request())]
        pages = await list_all(channel)
        listed = [session.session_id for page in pages for session in page]
        assert len(listed) == len(set(listed)) == 1000
        assert set(listed) == set(ids)
        await _forget(channel, ids)


async def test_a_page_that_would_outgrow_a_message_ends_before(server: RunningServer) -> None:
    """Fifty sessions with all that they may say of themselves: 6.6 million bytes."""
    token = await server.named("sketch-pages")
    async with connect(server.address, token) as channel:
        request = small_request()
        for number in range(32):
            request.options.metadata[f"key-{number}"] = "\N{ROBOT FACE}" * 1024
        ids = await _leave(channel, 25, request) + await _leave(channel, 25, request)
        pages = await list_all(channel, view=SESSION_VIEW_FULL)
        sizes = [sum(session.ByteSize() for session in page) for page in pages]
        assert sum(sizes) > MESSAGE_BYTES > max(sizes)
        assert {session.session_id for page in pages for session in page} == set(ids)
        # Without what a list does not need they fit on one page.
        (page,) = await list_all(channel)
        assert len(page) == 50
        await _forget(channel, ids)


async def _leave(channel: grpc.aio.Channel, count: int, request: GenerateRequest) -> list[str]:
    """So many sessions that were accepted and then cancelled by their tag, all at once."""
    assert count <= MOST_AT_ONCE
    tagged = GenerateRequest()
    tagged.CopyFrom(request)
    tagged.settings.steps = 100
    tag = str(uuid4())
    tagged.options.tags.append(tag)
    tagged.options.on_disconnect = ON_DISCONNECT_DETACH
    stub = InferenceServiceStub(channel)
    calls = [stub.Generate(tagged) for _ in range(count)]
    ids = [(await call.read()).event.session_id for call in calls]
    processing = ProcessingServiceStub(channel)
    cancelled = await processing.CancelSessions(
        CancelSessionsRequest(filter=SessionFilter(tags=[tag]), reason_text="a sketch")
    )
    assert cancelled.cancelled_count == count
    for call in calls:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await _rest(call)
    return ids


async def _rest(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def _forget(channel: grpc.aio.Channel, ids: list[str]) -> None:
    processing = ProcessingServiceStub(channel)
    for start in range(0, len(ids), MOST_AT_ONCE):
        await asyncio.gather(
            *(
                processing.DeleteSession(DeleteSessionRequest(session_id=id_))
                for id_ in ids[start : start + MOST_AT_ONCE]
            )
        )


async def test_a_revoked_token_ends_its_stream(server: RunningServer) -> None:
    token = await server.named("sketch-revoked")
    async with connect(server.address, token) as channel:
        call = InferenceServiceStub(channel).Generate(small_request(steps=100))
        first = await call.read()
        assert first.event.WhichOneof("event") == "accepted"
        await asyncio.to_thread(server.revoke, "sketch-revoked")
        told = await refusal_of(asyncio.wait_for(_rest(call), PATIENCE_SECONDS))
        assert (told.code, told.reason) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "TOKEN_INVALID",
        )
        again = InferenceServiceStub(channel).Generate(small_request())
        assert (await refusal_of(again.read())).reason == "TOKEN_INVALID"
