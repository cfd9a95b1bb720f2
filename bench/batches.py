"""Pictures as a durable batch, beside the same pictures by one call after another.

    python -m bench.sessions --only batch --only batch-demo
    python -m bench.batches [--items 10000]

The second one says what it costs to accept items and to look at them. All arms of the first
draw pictures of the same settings on the same server, each with a text and a seed of its own,
in turns A B C C B A. The calls of Generate come from one client that reads each stream to its
end, and the batches are watched to their ends, pictures included in both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from bench.outcome import Goal
from bench.sections import Section
from bench.served import MODEL_ID, Usage, plain_server, tiny_server, usage_of
from bench.work import MODEL_ID as DEMO_ID
from deviceops.v1 import batch_pb2, generation_pb2
from tests.running import Client, RunningServer, small_request

PIECE = 1_000  # items of one call
# Of the time that calls take, a batch is to take less: 1.2 times as fast.
_MOST_OF_CALLS = 1 / 1.2


@dataclass(frozen=True)
class Pictures:
    """What is drawn: squares of so many pixels, in so many steps."""

    name: str
    model_id: str
    edge: int
    steps: int
    server: Callable[[], AbstractContextManager[RunningServer]]

    def template(self) -> generation_pb2.GenerationSettings:
        """What all have in common."""
        return small_request(
            model_id=self.model_id, steps=self.steps, width=self.edge, height=self.edge
        ).settings


TINY = Pictures("batch", MODEL_ID, 256, 1, tiny_server)
"""Next to nothing but what surrounds the drawing."""
DEMO = Pictures("batch-demo", DEMO_ID, 256, 20, plain_server)


def _items(first: int, count: int) -> Iterator[batch_pb2.BatchItem]:
    for number in range(first, first + count):
        overlay = generation_pb2.GenerationOverlay(
            settings=generation_pb2.GenerationSettings(prompt=f"picture {number}", seed=number)
        )
        yield batch_pb2.BatchItem(item_id=str(number), overlay=overlay)


async def _by_calls(client: Client, pictures: Pictures, first: int, count: int) -> float:
    """Seconds of so many calls of Generate, one after another."""
    start = time.perf_counter()
    for item in _items(first, count):
        request = small_request()
        request.settings.CopyFrom(pictures.template())
        request.settings.prompt = item.overlay.settings.prompt
        request.settings.seed = item.overlay.settings.seed
        await client.draw(request)
    return time.perf_counter() - start


async def _as_batch(
    client: Client, pictures: Pictures, first: int, count: int, *, shared: bool = False
) -> float:
    """Seconds of the same as a batch, from its call to the end of its log."""
    start = time.perf_counter()
    items = list(_items(first, count))
    batch = await _create(client, pictures.template(), items, shared=shared)
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
    client: Client,
    template: generation_pb2.GenerationSettings,
    items: Sequence[batch_pb2.BatchItem],
    *,
    shared: bool = False,
) -> batch_pb2.Batch:
    """A batch of these items, in as many calls as they need."""
    request = batch_pb2.CreateBatchRequest(template=template, items=items[:PIECE])
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
    batch = await _create(client, TINY.template(), items)
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
ARMS: dict[str, Callable[[Client, Pictures, int, int], Awaitable[float]]] = {
    BASELINE: _by_calls,
    "as a batch": _as_batch,
    "as a batch that shares passes": partial(_as_batch, shared=True),
}
ROUNDS = [*ARMS, *reversed(ARMS)]


@dataclass
class _Taken:
    """What an arm has taken so far, in seconds."""

    seconds: float = 0.0
    front: float = 0.0
    worker: float = 0.0
    drawn: int = 0

    def add(self, seconds: float, usage: Usage, drawn: int) -> None:
        """One turn more."""
        self.seconds += seconds
        self.front += usage.front_seconds
        self.worker += usage.workers_seconds
        self.drawn += drawn

    def row(self, name: str, baseline: float) -> tuple[str, ...]:
        """What it took, beside `baseline` seconds."""
        each = [1_000 * took / self.drawn for took in (self.seconds, self.front, self.worker)]
        times = f"{baseline / self.seconds:.2f}"
        return (name, f"{self.seconds:.1f}", *(f"{took:.1f}" for took in each), times)


async def _compared(
    running: RunningServer, pictures: Pictures, count: int
) -> dict[str, _Taken]:
    """What each arm takes for so many pictures, in two turns."""
    async with running.client() as client:
        await _by_calls(client, pictures, 2**30, 2)  # the model is loaded
        taken = {name: _Taken() for name in ARMS}
        first, piece = 0, max(count // 2, 1)
        for name in ROUNDS:
            before = usage_of(running.process.pid)
            seconds = await ARMS[name](client, pictures, first, piece)
            usage = usage_of(running.process.pid).since(before)
            taken[name].add(seconds, usage, piece)
            first += piece
        return taken


def measure(pictures: Pictures, count: int) -> Section:
    """Have so many pictures drawn in each way."""
    with pictures.server() as running:
        taken = asyncio.run(_compared(running, pictures, count))
    baseline = taken[BASELINE].seconds
    heading = (
        f"{taken[BASELINE].drawn} pictures",
        *("seconds", "ms a picture", "ms of the front's processor", "ms of the worker's"),
        "times as fast",
    )
    best = min(each.seconds for name, each in taken.items() if name != BASELINE)
    return Section(
        pictures.name,
        f"Pictures of {pictures.edge}x{pictures.edge} of the model {pictures.model_id}, whose"
        f" steps are {pictures.steps}, by calls one after another and as durable batches.",
        [heading, *(each.row(name, baseline) for name, each in taken.items())],
        [Goal("the faster batch, of the time of calls", _MOST_OF_CALLS, best / baseline, "x")],
    )


async def _looked_at(running: RunningServer, items: int) -> dict[str, float]:
    async with running.client() as client:
        return await _many(client, items)


def main() -> None:
    """Print what items cost that are accepted and looked at."""
    parser = argparse.ArgumentParser(prog="python -m bench.batches")
    parser.add_argument("--items", type=int, default=10_000)
    options = parser.parse_args()
    with tiny_server() as running:
        found = asyncio.run(_looked_at(running, options.items))
    for name, value in found.items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
