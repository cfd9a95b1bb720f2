"""A generation that runs lets a more urgent one go first, over a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from deviceops.v1 import event_pb2, inference_pb2, session_pb2
from tests.drawings import Drawing
from tests.fakes.tiny_models import save_sdxl
from tests.running import Client, small_request

STEPS = 30


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_sdxl(folder / "tiny")
    return folder


def asked(
    steps: int, priority: session_pb2.Priority, **settings: int
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
