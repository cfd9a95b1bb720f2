"""Pictures as a durable batch, beside the same pictures by one call after another.

    python -m bench.sessions --only batch --only batch-demo
    python -m bench.batches [--items 10000]

The second one says what it costs to accept items and to look at them. All arms of the first
draw pictures of the same settings on the same server, each with a text and a seed of its own,
in turns A B C C B A. The calls of Generate come from one client that reads each stream to its
end, and the batches are watched to their ends, pictures included in both. Of the demo model's
pictures the arms are there in EXACT, and what shares passes also in FASTEST, which a client
chooses for calls as for batches. Processors' seconds tell more than the clock's where the
machine has other work.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum

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
    fastest: bool = False
    """Whether also in FASTEST."""

    def template(self, *, fastest: bool = False) -> generation_pb2.GenerationSettings:
        """What all have in common."""
        settings = small_request(
            model_id=self.model_id, steps=self.steps, width=self.edge, height=self.edge
        ).settings
        if fastest:
            settings.precision.mode = generation_pb2.PRECISION_MODE_FASTEST
        return settings


TINY = Pictures("batch", MODEL_ID, 256, 1, tiny_server)
"""Next to nothing but what surrounds the drawing."""
DEMO = Pictures("batch-demo", DEMO_ID, 256, 20, plain_server, fastest=True)


class Way(Enum):
    """How pictures are asked for."""

    CALLS = "calls of Generate"
    BATCH = "as a batch"
    SHARED = "as a batch that shares passes"


@dataclass(frozen=True)
class Arm:
    """Pictures that are asked for in one way, in EXACT or FASTEST."""

    way: Way
    fastest: bool = False

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.way.value}, FASTEST" if self.fastest else self.way.value

    async def draw(self, client: Client, pictures: Pictures, first: int, count: int) -> float:
        """Have so many drawn; the seconds that it took."""
        template = pictures.template(fastest=self.fastest)
        if self.way is Way.CALLS:
            return await _by_calls(client, template, first, count)
        return await _as_batch(client, template, first, count, shared=self.way is Way.SHARED)


CALLS = Arm(Way.CALLS)
FASTEST_CALLS, FASTEST_SHARED = Arm(Way.CALLS, fastest=True), Arm(Way.SHARED, fastest=True)
EXACT_ARMS = (CALLS, Arm(Way.BATCH), Arm(Way.SHARED))


def _items(first: int, count: int) -> Iterator[batch_pb2.BatchItem]:
    for number in range(first, first + count):
        overlay = generation_pb2.GenerationOverlay(
            settings=generation_pb2.GenerationSettings(prompt=f"picture {number}", seed=number)
        )
        yield batch_pb2.BatchItem(item_id=str(number), overlay=overlay)


async def _by_calls(
    client: Client, template: generation_pb2.GenerationSettings, first: int, count: int
) -> float:
    """Seconds of so many calls of Generate, one after another."""
    start = time.perf_counter()
    for item in _items(first, count):
        request = small_request()
        request.settings.CopyFrom(template)
        request.settings.prompt = item.overlay.settings.prompt
        request.settings.seed = item.overlay.settings.seed
        await client.draw(request)
    return time.perf_counter() - start


async def _as_batch(
    client: Client,
    template: generation_pb2.GenerationSettings,
    first: int,
    count: int,
    *,
    shared: bool,
) -> float:
    """Seconds of the same as a batch, from its call to the end of its log."""
    start = time.perf_counter()
    items = list(_items(first, count))
    batch = await _create(client, template, items, shared=shared)
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


@dataclass
class Taken:
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

    @property
    def processors(self) -> float:
        """Of both processes."""
        return self.front + self.worker

    def row(self, name: str, baseline: Taken) -> tuple[str, ...]:
        """What it took, beside the baseline."""
        each = [1_000 * took / self.drawn for took in (self.seconds, self.front, self.worker)]
        times = f"{baseline.seconds / self.seconds:.2f}"
        less = f"{baseline.processors / self.processors:.2f}"
        return (name, f"{self.seconds:.1f}", *(f"{took:.1f}" for took in each), times, less)


@dataclass
class Comparison:
    """What each arm took for pictures of the same settings."""

    taken: dict[Arm, Taken] = field(default_factory=dict)

    def section(self, pictures: Pictures) -> Section:
        """As a part of a page."""
        baseline = self.taken[CALLS]
        heading = (
            f"{baseline.drawn} pictures",
            *("seconds", "ms a picture", "ms of the front's processor", "ms of the worker's"),
            *("times as fast", "times as fast by processors' seconds"),
        )
        best = min(self.taken[arm].seconds for arm in EXACT_ARMS if arm is not CALLS)
        return Section(
            pictures.name,
            f"Pictures of {pictures.edge}x{pictures.edge} of the model {pictures.model_id},"
            f" whose steps are {pictures.steps}, by calls one after another and as durable"
            " batches.",
            [heading, *(each.row(arm.name, baseline) for arm, each in self.taken.items())],
            [
                Goal(
                    "the faster batch in EXACT, of the time of calls",
                    _MOST_OF_CALLS,
                    best / baseline.seconds,
                    "x",
                ),
                *self._fastest(baseline),
            ],
            [f"between two pictures of calls: {self._between(baseline)}"],
        )

    def _fastest(self, baseline: Taken) -> list[Goal]:
        if FASTEST_SHARED not in self.taken:
            return []
        shared = self.taken[FASTEST_SHARED].seconds
        own = self.taken[FASTEST_CALLS].seconds
        return [
            Goal(f"the batch in FASTEST, of the time of {name}", _MOST_OF_CALLS, share, "x")
            for name, share in (
                ("calls in EXACT", shared / baseline.seconds),
                ("its own calls", shared / own),
            )
        ]

    def _between(self, baseline: Taken) -> str:
        """How much a batch that draws each picture for itself could gain at all."""
        batch = self.taken[EXACT_ARMS[1]]
        front = 1_000 * baseline.front / baseline.drawn
        all_of_it = 1_000 * baseline.processors / baseline.drawn
        return (
            f"{front:.0f} ms of {all_of_it:.0f} ms of processors are the front's,"
            f" {100 * front / all_of_it:.1f} %, and {1_000 * batch.front / batch.drawn:.0f} ms"
            " in a batch; all else is the worker's, which draws each picture as for a call"
        )


async def _compared(running: RunningServer, pictures: Pictures, count: int) -> Comparison:
    """What each arm takes for so many pictures, in two turns."""
    arms = [*EXACT_ARMS, *((FASTEST_CALLS, FASTEST_SHARED) if pictures.fastest else ())]
    async with running.client() as client:
        for arm in arms:  # the model is loaded, and FASTEST has made its trials
            await arm.draw(client, pictures, 2**30, 2)
        found = Comparison({arm: Taken() for arm in arms})
        first, piece = 0, max(count // 2, 1)
        for arm in [*arms, *reversed(arms)]:
            before = usage_of(running.process.pid)
            seconds = await arm.draw(client, pictures, first, piece)
            usage = usage_of(running.process.pid).since(before)
            found.taken[arm].add(seconds, usage, piece)
            first += piece
        return found


def measure(pictures: Pictures, count: int) -> Section:
    """Have so many pictures drawn in each way."""
    with pictures.server() as running:
        found = asyncio.run(_compared(running, pictures, count))
    return found.section(pictures)


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
