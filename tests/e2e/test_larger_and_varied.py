"""Second passes, noise between seeds and edges that continue, through the public contract."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from deviceops.v1 import event_pb2, generation_pb2, inference_pb2, session_pb2
from tests.e2e.errors import refusal_of
from tests.running import Client, RunningServer, small_request


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Client]:
    async with server.client() as connected:
        yield connected


def asked(**second: Any) -> inference_pb2.GenerateRequest:
    request = small_request(steps=2, seamless_horizontally=True)
    request.settings.variation.seed = 11
    request.settings.variation.strength = 0.3
    request.settings.second_pass.CopyFrom(generation_pb2.SecondPass(**second))
    return request


async def test_all_at_once_is_drawn_and_told_and_leaves_nothing_behind(client: Client) -> None:
    _, plain = await client.draw(small_request(steps=2))
    pixels = generation_pb2.SECOND_PASS_UPSCALE_PIXELS
    request = asked(scale=1.25, strength=0.5, steps=4, upscale=pixels)
    events, files = await client.draw(request)
    _, again = await client.draw(small_request(steps=2))

    assert plain == again
    picture = Image.open(io.BytesIO(files[0]))
    assert picture.size == (320, 320)
    assert np.asarray(picture).std() > 5
    done = events[-1].completed
    effective = done.generation.effective_settings
    assert effective.second_pass.guidance.scale == effective.guidance.scale
    assert effective.second_pass.steps == 4
    assert (effective.variation.seed, effective.variation.strength) == (11, 0.3)
    assert effective.seamless_horizontally
    assert not effective.seamless_vertically
    assert (done.images[0].width, done.images[0].height) == (320, 320)
    told = json.loads(picture.info["deviceops"])
    assert told["second_pass"]["scale"] == 1.25
    assert "Hires upscaler: Lanczos" in picture.info["parameters"]
    assert steps_of(events) == [(1, 2), (2, 2), (1, 2), (2, 2)]
    assert events[0].accepted.steps == 4
    expected = list(events[0].accepted.expected_phases)
    assert expected[-5:] == [
        session_pb2.PHASE_DENOISING,
        session_pb2.PHASE_PREPARING_INPUT,
        session_pb2.PHASE_SECOND_PASS,
        session_pb2.PHASE_DECODING,
        session_pb2.PHASE_ENCODING_IMAGE,
    ]


def steps_of(events: list[event_pb2.SessionEvent]) -> list[tuple[int, int]]:
    return [
        (event.step_finished.step, event.step_finished.steps)
        for event in events
        if event.WhichOneof("event") == "step_finished"
    ]


async def test_what_cannot_be_is_refused_before_any_work(client: Client) -> None:
    too_large = asked(scale=4)
    too_large.settings.width = 520
    refusal = await refusal_of(client.draw(too_large))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == (
        "DIMENSIONS_INVALID",
        ["settings.second_pass.scale"],
    )
    by_model = asked(upscale=generation_pb2.SECOND_PASS_UPSCALE_MODEL)
    by_model.settings.second_pass.postprocessor_id = "no-such"
    refusal = await refusal_of(client.draw(by_model))
    assert refusal.reason == "MODEL_NOT_FOUND"
    no_step = asked(strength=0.4)
    refusal = await refusal_of(client.draw(no_step))
    assert refusal.fields == ["settings.second_pass.strength"]
