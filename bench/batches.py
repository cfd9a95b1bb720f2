"""Small pictures as a durable batch, beside the same pictures by one call after another, as
Markdown; and what it costs to accept items and to look at them.

    python -m bench.batches [--pictures 1000] [--items 10000] [--out FILE.md]

All arms draw the same pictures with the same seeds on the same server, in turns A B C C B A.
The calls of Generate come from one client that reads each stream to its end, and the batches
are watched to their ends, pictures included in both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.machine import describe_machine
from deviceops.v1 import batch_pb2, generation_pb2
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, small_request, start_server

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


async def _as_batch(client: Client, first: int, count: int, *, shared: bool = False) -> float:
    """Seconds of the same as a batch, from its call to the end of its log."""
    start = time.perf_counter()
    batch = await _create(client, list(_items(first, count)), shared=shared)
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


async def _create(
    client: Client, items: Sequence[batch_pb2.BatchItem], *, shared: bool = False
) -> batch_pb2.Batch:
    """A batch of these items, in as many calls as they need."""
    request = batch_pb2.CreateBatchRequest(template=_template(), items=items[:PIECE])
    request.keep_open = len(items) > PIECE
    if shared:
        request.computation = generation_pb2.BATCH_COMPUTATION_THROUGHPUT
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


BASELINE = "calls of Generate"
ARMS: dict[str, Callable[[Client, int, int], Awaitable[float]]] = {
    BASELINE: _by_calls,
    "as a batch": _as_batch,
    "as a batch that shares passes": partial(_as_batch, shared=True),
}
ROUNDS = [*ARMS, *reversed(ARMS)]


async def _measure(client: Client, pictures: int, items: int) -> list[str]:
    await client.draw(small_request(steps=1, model_id="small"))  # the model is loaded
    piece = max(pictures // (len(ROUNDS) // len(ARMS)), 1)
    seconds = dict.fromkeys(ARMS, 0.0)
    begun = dict.fromkeys(ARMS, 0)
    for name in ROUNDS:
        seconds[name] += await ARMS[name](client, begun[name], piece)
        begun[name] += piece
    drawn = begun[BASELINE]
    lines = [
        f"| {drawn} pictures | seconds | milliseconds a picture | times as fast |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {took:.1f} | {1_000 * took / drawn:.1f} |"
            f" {seconds[BASELINE] / took:.2f} |"
            for name, took in seconds.items()
        ),
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
    machine = describe_machine()
    written = (
        f"Written by `python -m bench.batches --pictures {options.pictures}"
        f" --items {options.items}`, with a tiny model whose pictures of 256x256 take one step."
    )
    where = (
        f"Machine: {machine.processor}, {machine.cores} cores, {machine.system}, Python"
        f" {machine.python}; load average {', '.join(f'{each:.2f}' for each in machine.load)}."
    )
    page = "\n".join(["# Durable batches", "", written, "", *lines, "", where, ""])
    if options.out is None:
        print(page)
    else:
        options.out.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
