"""Durable batches over a real channel to a real worker, and over restarts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from deviceops.v1 import (
    batch_pb2,
    common_pb2,
    device_info_pb2,
    event_pb2,
    generation_pb2,
    processing_pb2,
    session_pb2,
)
from tests.e2e.errors import read
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, small_request, start_server

Settings = generation_pb2.GenerationSettings
COMPLETED = session_pb2.SESSION_STATE_COMPLETED
FAILED = session_pb2.SESSION_STATE_FAILED
CANCELLED = session_pb2.SESSION_STATE_CANCELLED
PAUSED = session_pb2.SESSION_STATE_PAUSED
RUNNING = session_pb2.SESSION_STATE_RUNNING
FINAL = (COMPLETED, FAILED, CANCELLED)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_sd1(folder / "small")
    return folder


@pytest.fixture(scope="module")
def batch_server(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningServer]:
    """A server with that model alone."""
    data = tmp_path_factory.mktemp("data")
    with start_server(data, "--model-root", str(root)) as running:
        yield running


@pytest.fixture
async def client(batch_server: RunningServer) -> AsyncIterator[Client]:
    async with batch_server.client() as connected:
        yield connected


def item(name: str, *cleared: str, **settings: Any) -> batch_pb2.BatchItem:
    overlay = generation_pb2.GenerationOverlay(
        settings=Settings(**settings), cleared_fields=FieldMask(paths=cleared)
    )
    return batch_pb2.BatchItem(item_id=name, overlay=overlay)


def asked(*items: batch_pb2.BatchItem, **fields: Any) -> batch_pb2.CreateBatchRequest:
    """A batch over a small request of two steps."""
    template = small_request(steps=2, model_id="small", negative_prompt="blurry").settings
    request = batch_pb2.CreateBatchRequest(template=template, items=items, **fields)
    request.options.request_id = str(uuid.uuid4())
    return request


async def create(client: Client, request: batch_pb2.CreateBatchRequest) -> batch_pb2.Batch:
    answer = await client.processing.CreateBatch(request, metadata=client.metadata)
    return answer.batch


async def get(client: Client, batch_id: str, **fields: Any) -> batch_pb2.GetBatchResponse:
    request = batch_pb2.GetBatchRequest(batch_id=batch_id, **fields)
    return await client.processing.GetBatch(request, metadata=client.metadata)


async def until(
    client: Client, batch_id: str, *states: session_pb2.SessionState.ValueType
) -> batch_pb2.GetBatchResponse:
    """The batch once it is in one of these states."""
    async with asyncio.timeout(60):
        while True:
            found = await get(client, batch_id, page_size=1000)
            if found.batch.state in states:
                return found
            await asyncio.sleep(0.02)


async def watch(
    client: Client, batch_id: str, start: int = 0, *, data: bool = False
) -> list[event_pb2.SessionEvent]:
    request = batch_pb2.WatchBatchRequest(
        batch_id=batch_id,
        from_sequence=start,
        delivery=session_pb2.DeliveryOptions(omit_image_data=not data),
    )
    call = client.processing.WatchBatch(request, metadata=client.metadata)
    return [answer.event async for answer in call]


async def test_each_item_is_drawn_as_a_call_of_its_own(client: Client) -> None:
    batch = await create(
        client,
        asked(
            item("plain", "negative_prompt", prompt="a pear"),
            item("as the template"),
            item("two", seeds=[3, 9], steps=3),
        ),
    )
    assert (batch.item_count, batch.sealed) == (3, True)
    events = await watch(client, batch.batch_id, data=True)
    alone = [
        small_request("a pear", steps=2, model_id="small"),
        small_request(steps=2, model_id="small", negative_prompt="blurry"),
        small_request(
            steps=3, model_id="small", negative_prompt="blurry", seed=None, seeds=[3, 9]
        ),
    ]
    drawn = [list((await client.draw(request))[1].values()) for request in alone]
    found = await until(client, batch.batch_id, *FINAL)
    ids = [[image.artifact_id for image in each.images] for each in found.items]
    assert [len(each) for each in ids] == [1, 1, 2]
    assert [each.item_id for each in found.items] == ["plain", "as the template", "two"]
    assert {each.state for each in found.items} == {COMPLETED}
    assert {each.attempt_count for each in found.items} == {1}
    chunks: dict[tuple[str, int], bytes] = {}
    for event in events:
        if event.HasField("image_chunk"):
            key = event.item_id, event.image_chunk.image_index
            chunks[key] = chunks.get(key, b"") + event.image_chunk.data
    names = [("plain", 0), ("as the template", 0), ("two", 0), ("two", 1)]
    assert [chunks[name] for name in names] == [data for files in drawn for data in files]
    ends = [event for event in events if event.HasField("item_finished")]
    assert sorted(each.item_finished.done_count for each in ends) == [1, 2, 3]
    assert all(each.item_finished.session_id for each in ends)
    assert events[0].accepted.kind == session_pb2.SESSION_KIND_BATCH
    assert events[-1].HasField("completed")
    assert [each.sequence for each in await watch(client, batch.batch_id, 3)][0] == 3
    session = await client.processing.GetSession(
        processing_pb2.GetSessionRequest(session_id=found.items[0].session_id),
        metadata=client.metadata,
    )
    assert session.session.parent_session_id == batch.session_id
    assert found.batch.completed_count == 3
    assert found.batch.end_time.seconds
