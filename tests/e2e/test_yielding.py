"""Generations that run let more urgent ones and other clients' go first, over a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deviceops.v1 import event_pb2, inference_pb2, processing_pb2, session_pb2
from tests.drawings import Drawing
from tests.fakes.tiny_models import save_sdxl
from tests.running import Client, RunningServer, small_request, start_server

STEPS = 30


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose time slices are so short that every look at the queue finds them over."""
    models, data = (tmp_path_factory.mktemp(name) for name in ("models", "data"))
    save_sdxl(models / "tiny")
    (data / "config.toml").write_text("time_slice_seconds = 0.001\n")
    flags = ("--config", str(data / "config.toml"), "--model-root", str(models))
    with start_server(data, *flags, "--no-preload") as server:
        yield server


def asked(
    steps: int, priority: session_pb2.Priority.ValueType, **settings: Any
) -> inference_pb2.GenerateRequest:
    made = small_request(steps=steps, model_id="tiny", **settings)
    made.options.priority = priority
    return made


def files(events: list[event_pb2.SessionEvent]) -> bytes:
    return b"".join(event.image_chunk.data for event in events)


def steps(events: list[event_pb2.SessionEvent]) -> list[int]:
    return [event.step_finished.step for event in events if event.HasField("step_finished")]


async def test_a_higher_priority_starts_after_the_step_and_nothing_is_lost(
    client: Client,
) -> None:
    patient = asked(STEPS, session_pb2.PRIORITY_LOW)
    urgent = asked(3, session_pb2.PRIORITY_HIGH, seed=11)
    _, low_alone = await client.draw(patient)
    _, high_alone = await client.draw(urgent)

    low = Drawing(client, patient)
    await low.until("step_finished")
    high = Drawing(client, urgent)
    await high.until("accepted")
    yielded = await low.until("yielded")
    assert yielded.yielded.reason == event_pb2.YIELD_REASON_HIGHER_PRIORITY
    assert yielded.yielded.kept_steps == len(steps(low.events))
    assert yielded.yielded.queue_position == 1
    assert (await low.session()).state == session_pb2.SESSION_STATE_QUEUED
    await high.finish()
    await low.finish()

    accepted = high.events[0].event_time.ToNanoseconds()
    between = [
        event
        for event in low.events
        if event.HasField("step_finished")
        and accepted < event.event_time.ToNanoseconds() < yielded.event_time.ToNanoseconds()
    ]
    assert len(between) <= 2, "one step was at work, and one may have ended as the other came"
    assert files(low.events) == low_alone[0]
    assert files(high.events) == high_alone[0]
    assert steps(low.events) == list(range(1, STEPS + 1))


async def test_clients_share_a_device_by_slices_of_time(
    client: Client, running: RunningServer
) -> None:
    wanted = asked(150, session_pb2.PRIORITY_NORMAL)  # nobody waits for its end
    async with running.client(await running.named("other")) as other:
        first = Drawing(client, wanted)
        await first.until("step_finished")
        second, third = Drawing(other, wanted), Drawing(client, wanted)
        await third.until("accepted")
        yielded = (await first.until("yielded")).yielded
        assert yielded.reason == event_pb2.YIELD_REASON_TIME_SLICE
        await second.until("step_finished")
        queue = await client.processing.ListQueue(
            processing_pb2.ListQueueRequest(), metadata=client.metadata
        )
        assert third.events[0].session_id == queue.sessions[-1].session_id
        yielded = (await second.until("yielded")).yielded
        assert yielded.reason == event_pb2.YIELD_REASON_TIME_SLICE
        await first.until("step_finished")
        await first.until("yielded")  # and so on; a client's own wait for one another
        for drawing in (first, second, third):
            drawing.cancel()
        kinds = {event.WhichOneof("event") for event in third.events}
        assert "step_finished" not in kinds
