"""Servers that are killed in the middle of a batch: what has ended is not run again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deviceops.v1 import batch_pb2, generation_pb2, processing_pb2, session_pb2
from tests.e2e.test_durable_batches import (
    CANCELLED,
    COMPLETED,
    FINAL,
    PAUSED,
    asked,
    create,
    get,
    item,
    root,
    until,
    until_some_ended,
)
from tests.e2e.test_restarts import kill
from tests.running import Client, start_server

__all__ = ["root"]


async def children(client: Client, session_id: str) -> list[session_pb2.Session]:
    request = processing_pb2.ListSessionsRequest(page_size=1000)
    request.filter.parent_session_id = session_id
    found = await client.processing.ListSessions(request, metadata=client.metadata)
    return list(found.sessions)


@pytest.mark.parametrize("computation", ["EXACT", "THROUGHPUT"])
async def test_a_batch_goes_on_after_kills_and_repeats_nothing(
    root: Path, tmp_path: Path, computation: str
) -> None:
    flags = ("--model-root", str(root))
    count = 9
    request = asked(
        # Of different lengths, so that those of a group do not end all at once.
        *(item(str(number), steps=3 + 3 * number) for number in range(count)),
        computation=generation_pb2.BatchComputation.Value(f"BATCH_COMPUTATION_{computation}"),
    )
    request.template.ClearField("seed")
    seeds: dict[str, int] = {}
    done: dict[str, str] = {}
    batch_id = ""
    for ended in (2, 5, 0):
        with start_server(tmp_path / "data", *flags) as running:
            async with running.client() as client:
                batch = await create(client, request)
                batch_id = batch_id or batch.batch_id
                assert batch.batch_id == batch_id
                before = (await get(client, batch_id)).items
                assert {each.item_id for each in before if each.state == COMPLETED} >= {*done}
                if ended:
                    await until_some_ended(client, batch_id, ended)
                    found = await get(client, batch_id)
                    for each in found.items:
                        if each.state == COMPLETED:
                            assert done.setdefault(each.item_id, each.session_id)
                            seeds[each.item_id] = each.images[0].seed
                    kill(running)
                    continue
                found = await until(client, batch_id, *FINAL)
                assert found.batch.state == COMPLETED
                assert found.batch.completed_count == count
                for each in found.items:
                    assert seeds.get(each.item_id, each.images[0].seed) == each.images[0].seed
                    assert done.get(each.item_id, each.session_id) == each.session_id
                    assert each.attempt_count == 1
                assert len({each.images[0].seed for each in found.items}) == count
                of_items = await children(client, found.batch.session_id)
                assert found.batch.session_id == batch.session_id
                if computation == "EXACT":
                    assert len(of_items) == count


async def test_what_was_paused_is_paused_after_a_kill(root: Path, tmp_path: Path) -> None:
    flags = ("--model-root", str(root))
    request = asked(item("a", steps=60), item("b", steps=2))
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            batch = await create(client, request)
            await asyncio.sleep(0.5)
            await client.processing.PauseBatch(
                batch_pb2.PauseBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
            )
            await until(client, batch.batch_id, PAUSED)
            kill(running)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            await asyncio.sleep(1)
            assert (await get(client, batch.batch_id)).batch.state == PAUSED
            await client.processing.ResumeBatch(
                batch_pb2.ResumeBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
            )
            found = await until(client, batch.batch_id, *FINAL)
            assert found.batch.completed_count == 2


async def test_items_that_run_again_do_so_over_a_kill_and_a_server_of_a_moment(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    request = asked(item("a", steps=2), item("b", steps=40))
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            batch = await create(client, request)
            await until_some_ended(client, batch.batch_id)
            await client.processing.CancelBatch(
                batch_pb2.CancelBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
            )
            await until(client, batch.batch_id, CANCELLED)
            answer = await client.processing.RetryBatchItems(
                batch_pb2.RetryBatchItemsRequest(batch_id=batch.batch_id, item_ids=["b"]),
                metadata=client.metadata,
            )
            assert answer.batch.session_id != batch.session_id
            kill(running)
    with start_server(tmp_path / "data", *flags):
        pass  # it ends before it has come to anything
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            found = await until(client, batch.batch_id, *FINAL)
            assert (found.batch.state, found.batch.completed_count) == (COMPLETED, 2)
            assert found.batch.session_id == answer.batch.session_id
            assert found.batch.end_reason == ""


async def test_a_server_that_is_stopped_leaves_a_batch_to_the_next(
    root: Path, tmp_path: Path
) -> None:
    flags = ("--model-root", str(root))
    request = asked(*(item(str(number), steps=3) for number in range(6)))
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            batch = await create(client, request)
            await until_some_ended(client, batch.batch_id)
    with start_server(tmp_path / "data", *flags) as running:
        async with running.client() as client:
            found = await until(client, batch.batch_id, *FINAL)
            assert (found.batch.state, found.batch.completed_count) == (COMPLETED, 6)
            ended = [each for each in found.items if each.state == CANCELLED]
            assert not ended
