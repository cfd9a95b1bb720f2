"""What the comparisons do with a running server, over its contract."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import grpc.aio

from bench.measure import Sample
from bench.work import Work, pixel_hash
from deviceops.v1 import (
    common_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    processing_pb2,
    sampling_pb2,
)
from tests.running import Client

PRECISIONS: Mapping[str, generation_pb2.PrecisionMode.ValueType] = {
    "exact": generation_pb2.PRECISION_MODE_EXACT,
    "fastest": generation_pb2.PRECISION_MODE_FASTEST,
}

Generation = grpc.aio.UnaryStreamCall[
    inference_pb2.GenerateRequest, inference_pb2.GenerateResponse
]


def request_for(work: Work, precision: str = "exact") -> inference_pb2.GenerateRequest:
    """The request that draws `work`."""
    return inference_pb2.GenerateRequest(
        settings=generation_pb2.GenerationSettings(
            prompt=work.prompt,
            width=work.width,
            height=work.height,
            steps=work.steps,
            guidance=sampling_pb2.GuidanceSettings(scale=work.guidance_scale),
            seed=work.seed,
            scheduler=sampling_pb2.SchedulerSettings(
                scheduler=sampling_pb2.SCHEDULER_EULER_DISCRETE
            ),
            precision=generation_pb2.Precision(mode=PRECISIONS[precision]),
        )
    )


async def draw(client: Client, work: Work, precision: str = "exact") -> Sample:
    """From the call to the end of its stream: the picture in chunks, its hash checked.

    Facts: the engine's own times by phase; `accepted`, `first_phase` and `last_chunk`
    count from the call.
    """
    arrivals: dict[str, float] = {}
    data = b""
    completed: event_pb2.SessionCompleted | None = None
    start = time.perf_counter()
    async for response in client.generate(request_for(work, precision)):
        event = response.event
        kind = event.WhichOneof("event")
        match kind:
            case "accepted":
                arrivals["accepted"] = time.perf_counter() - start
            case "phase_started":
                arrivals.setdefault("first_phase", time.perf_counter() - start)
            case "image_chunk":
                data += event.image_chunk.data
                arrivals["last_chunk"] = time.perf_counter() - start
            case "completed":
                completed = event.completed
    assert completed is not None, "the session did not complete"
    digest = hashlib.sha256(data).hexdigest()
    assert digest == completed.images[0].artifact_id, "the picture is not what was announced"
    seconds = time.perf_counter() - start
    timings = completed.timings
    engine = {
        "encode_text": timings.encode_text.ToNanoseconds() / 1e9,
        "denoise": timings.denoise.ToNanoseconds() / 1e9,
        "decode": timings.decode.ToNanoseconds() / 1e9,
        "encode_image": timings.encode_image.ToNanoseconds() / 1e9,
    }
    facts = completed.generation
    labels = {
        "unet": _data_type(facts, common_pb2.MODEL_PART_DENOISER),
        "vae": _data_type(facts, common_pb2.MODEL_PART_VAE),
        "channels_last": str(common_pb2.MODEL_PART_DENOISER in facts.computed.channels_last),
        "pixels": pixel_hash(data),
    }
    return Sample(seconds, arrivals | engine, labels)


def _data_type(facts: event_pb2.GenerationFacts, part: common_pb2.ModelPart.ValueType) -> str:
    """`float32`, `bfloat16` ... of a part of the model."""
    value = next(each.data_type for each in facts.data_types if each.part == part)
    return common_pb2.TensorDataType.Name(value).removeprefix("TENSOR_DATA_TYPE_").lower()


async def next_event(call: Generation) -> event_pb2.SessionEvent:
    """The next event of a stream that has one. Not to be mixed with iterating over it."""
    response = await call.read()
    assert isinstance(response, inference_pb2.GenerateResponse), "the stream has ended"
    return response.event


class Moment(NamedTuple):
    """Seconds of a generation's steps so far, and how much of the one at work is over."""

    mean_step: float
    part_of_step: float


async def random_moment(
    call: Generation, moments: random.Random, first: int, last: int
) -> Moment:
    """Read on to a random moment of the step after one of the steps `first` to `last`."""
    finished, part = moments.randint(first, last), moments.random()
    arrivals: list[float] = []
    while len(arrivals) < finished:
        event = await next_event(call)
        if event.WhichOneof("event") == "step_finished":
            arrivals.append(time.perf_counter())
    mean_step = (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1)
    await asyncio.sleep(part * mean_step)
    return Moment(mean_step, part)


async def first_event(client: Client, work: Work) -> Sample:
    """From a generation's call to its accepted event; the session is stopped then."""
    start = time.perf_counter()
    call = client.generate(request_for(work))
    event = await next_event(call)
    seconds = time.perf_counter() - start
    assert event.WhichOneof("event") == "accepted", event
    call.cancel()
    await ended(client, event.session_id)
    return Sample(seconds, {"queue_position": event.accepted.queue_position})


async def ended(client: Client, session_id: str) -> None:
    """Wait until a session is final."""
    request = processing_pb2.WatchSessionRequest(session_id=session_id)
    async for _ in client.processing.WatchSession(request, metadata=client.metadata):
        pass


@asynccontextmanager
async def kept_busy(client: Client) -> AsyncIterator[None]:
    """Long generations, one after another, for as long as the block runs."""
    running = asyncio.Event()

    async def draw_on() -> None:
        number = 0
        while True:
            number += 1
            work = Work("a rocket on a white background", seed=number, steps=150)
            async for response in client.generate(request_for(work)):
                if response.event.WhichOneof("event") == "step_finished":
                    running.set()

    task = asyncio.create_task(draw_on())
    waiting = asyncio.create_task(running.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    try:
        assert running.is_set(), task.exception()
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await task
