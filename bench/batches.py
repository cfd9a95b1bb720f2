"""Small pictures as a durable batch, beside the same pictures by one call after another, as
Markdown; and what it costs to accept items and to look at them.

    python -m bench.batches [--pictures 1000] [--items 10000] [--out FILE.md]

Both arms draw the same pictures with the same seeds on the same server, in turns A B B A. The
calls of Generate come from one client that reads each stream to its end, pictures included; the
batch is watched to its end, its pictures included as well.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.machine import describe_machine
from deviceops.v1 import batch_pb2, generation_pb2
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, small_request, start_server

ROUNDS = 4  # A B B A
PIECE = 1_000  # items of one call


def _template() -> generation_pb2.GenerationSettings:
    return small_request(steps=1, model_id="small").settings


def _items(first: int, count: int) -> Iterator[batch_pb2.BatchItem]:
    for number in range(first, first + count):
        overlay = generation_pb2.GenerationOverlay(
            settings=generation_pb2.GenerationSettings(prompt=f"picture {number}", seed=number)
        )
        yield batch_pb2.BatchItem(item_id=str(number), overlay=overlay)


async def _by_calls(client: Client, first: int, count: int) -> float:
    """Seconds of so many calls of Generate, one after another."""
    start = time.perf_counter()
    for item in _items(first, count):
        request = small_request(
            item.overlay.settings.prompt,
            steps=1,
            model_id="small",
            seed=item.overlay.settings.seed,
        )
        await client.draw(request)
    return time.perf_counter() - start


async def _as_batch(client: Client, first: int, count: int) -> float:
    """Seconds of the same as a batch, from its call to the end of its log."""
    start = time.perf_counter()
    batch = await _create(client, list(_items(first, count)))
    call = client.processing.WatchBatch(
        batch_pb2.WatchBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
    )
    async for answer in call:
        last = answer.event
    assert last.HasField("completed"), last
    seconds = time.perf_counter() - start
    await client.processing.DeleteBatch(
        batch_pb2.DeleteBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
    )
    return seconds


async def _create(client: Client, items: Sequence[batch_pb2.BatchItem]) -> batch_pb2.Batch:
    """A batch of these items, in as many calls as they need."""
    request = batch_pb2.CreateBatchRequest(template=_template(), items=items[:PIECE])
    request.keep_open = len(items) > PIECE
    batch = (await client.processing.CreateBatch(request, metadata=client.metadata)).batch
    for at in range(PIECE, len(items), PIECE):
        more = batch_pb2.AddBatchItemsRequest(
            batch_id=batch.batch_id,
            items=items[at : at + PIECE],
            seal=at + PIECE >= len(items),
        )
        batch = (await client.processing.AddBatchItems(more, metadata=client.metadata)).batch
    return batch


async def _many(client: Client, count: int) -> dict[str, float]:
    """What so many items cost that are accepted, looked at, and cancelled."""
    items = list(_items(0, count))
    start = time.perf_counter()
    batch = await _create(client, items)
    accepted = time.perf_counter()
    request = batch_pb2.GetBatchRequest(batch_id=batch.batch_id, page_size=PIECE)
    pages = []
    while True:
        begun = time.perf_counter()
        found = await client.processing.GetBatch(request, metadata=client.metadata)
        pages.append(time.perf_counter() - begun)
        request.page_token = found.next_page_token
        if not request.page_token:
            break
    begun = time.perf_counter()
    await client.processing.CancelBatch(
        batch_pb2.CancelBatchRequest(batch_id=batch.batch_id), metadata=client.metadata
    )
    watched = batch_pb2.WatchBatchRequest(batch_id=batch.batch_id)
    watched.delivery.omit_image_data = True
    async for _ in client.processing.WatchBatch(watched, metadata=client.metadata):
        pass
    return {
        "accepted, milliseconds an item": 1_000 * (accepted - start) / count,
        f"a page of {PIECE}, milliseconds": 1_000 * statistics.median(pages),
        "cancelled, seconds in all": time.perf_counter() - begun,
    }


async def _measure(client: Client, pictures: int, items: int) -> list[str]:
    await client.draw(small_request(steps=1, model_id="small"))  # the model is loaded
    piece = max(pictures // (ROUNDS // 2), 1)
    calls: list[float] = []
    batches: list[float] = []
    for number in range(ROUNDS):
        by_calls = number in (0, 3)
        arm, kept = (_by_calls, calls) if by_calls else (_as_batch, batches)
        kept.append(await arm(client, len(kept) * piece, piece))
    drawn = piece * ROUNDS // 2
    ratio = sum(calls) / sum(batches)
    lines = [
        f"| {drawn} pictures | seconds | milliseconds a picture |",
        "| --- | --- | --- |",
        f"| calls of Generate | {sum(calls):.1f} | {1_000 * sum(calls) / drawn:.1f} |",
        f"| as a batch | {sum(batches):.1f} | {1_000 * sum(batches) / drawn:.1f} |",
        "",
        f"The batch is {ratio:.2f} times as fast.",
        "",
        f"{items} items that are accepted, looked at and cancelled:",
        "",
    ]
    found = await _many(client, items)
    return lines + [f"- {name}: {value:.3f}" for name, value in found.items()]


def main() -> None:
    """Measure, and print or keep the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.batches")
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save_sd1(Path(folder) / "models" / "small")
        flags = ("--model-root", str(Path(folder) / "models"))
        with start_server(Path(folder) / "data", *flags) as running:

            async def measured() -> list[str]:
                async with running.client() as client:
                    return await _measure(client, options.pictures, options.items)

            lines = asyncio.run(measured())
    page = "\n".join(["# Durable batches", "", *lines, "", str(describe_machine()), ""])
    if options.out is None:
        print(page)
    else:
        options.out.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
