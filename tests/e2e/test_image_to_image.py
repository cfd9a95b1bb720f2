"""Generations that start from a picture, through the public contract."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from deviceops.v1 import common_pb2, generation_pb2, inference_pb2, session_pb2
from tests.domains.picture.drawn import painting, png, saved
from tests.e2e.errors import refusal_of
from tests.e2e.programs import objects, run
from tests.running import Client, RunningServer, small_request

FIELD = "settings.image_to_image.image"
PICTURE = painting(256, 256)


@pytest.fixture(scope="module")
def running(server: RunningServer) -> RunningServer:
    """The shared one: these tests leave it as it was."""
    return server


def start(strength: float = 0.5, **image: Any) -> inference_pb2.GenerateRequest:
    request = small_request(steps=4)
    request.settings.image_to_image.CopyFrom(
        generation_pb2.ImageToImage(image=common_pb2.InputImage(**image), strength=strength)
    )
    return request


def pixels(file: bytes) -> Any:
    """Of a PNG, as floats."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image).astype(float)


def distance(file: bytes) -> float:
    """How far a picture is from the one that it started from."""
    return float(np.abs(pixels(file) - np.asarray(PICTURE)).mean())


async def test_a_picture_is_redrawn_and_leaves_nothing_behind(client: Client) -> None:
    data = saved(PICTURE)
    _, plain = await client.draw(small_request())
    events, little = await client.draw(start(0.25, inline=data))
    _, much = await client.draw(start(1.0, inline=data))
    _, again = await client.draw(small_request())

    assert distance(little[0]) < distance(much[0])
    assert plain == again
    accepted, completed = events[0].accepted, events[-1].completed
    assert session_pb2.PHASE_PREPARING_INPUT in accepted.expected_phases
    told = completed.generation.effective_settings
    assert (told.width, told.height, told.image_to_image.strength) == (256, 256, 0.25)
    assert not told.image_to_image.HasField("image")
    steps = [event for event in events if event.WhichOneof("event") == "step_finished"]
    assert [event.step_finished.steps for event in steps] == [1]


async def test_a_picture_of_a_session_is_gone_on_with(client: Client) -> None:
    events, files = await client.draw(small_request(steps=1))
    session_id = events[0].session_id
    named = common_pb2.SessionImage(session_id=session_id)

    result, redrawn = await client.draw(start(0.25, session_image=named))
    _, inline = await client.draw(start(0.25, inline=files[0]))

    assert np.array_equal(pixels(redrawn[0]), pixels(inline[0]))
    told = result[-1].completed.generation.effective_settings.image_to_image
    assert told.image.artifact_id


BOMB = png(60_000, 60_000, rows=b"\0")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "REQUIRED_FIELD_MISSING"),
        (b"GIF89a", "IMAGE_FORMAT_UNSUPPORTED"),
        (b"no picture at all", "IMAGE_UNREADABLE"),
        (saved(PICTURE)[:-200], "IMAGE_UNREADABLE"),
        (BOMB, "IMAGE_TOO_LARGE"),
    ],
)
async def test_a_bad_picture_is_refused_by_its_field(
    client: Client, data: bytes, reason: str
) -> None:
    request = start(inline=data) if data else start()
    refusal = await refusal_of(client.draw(request))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refusal.fields == [FIELD]


async def test_a_validation_tells_size_and_phases_and_what_is_wrong(client: Client) -> None:
    request = start(inline=saved(painting(96, 48)))
    request.settings.ClearField("width")
    request.settings.ClearField("height")
    wanted = inference_pb2.ValidateGenerationRequest(request=request)
    verdict = await client.inference.ValidateGeneration(wanted, metadata=client.metadata)

    assert verdict.valid
    assert verdict.effective_settings.width == 2 * verdict.effective_settings.height
    assert session_pb2.PHASE_PREPARING_INPUT in verdict.expected_phases

    wanted.request.settings.image_to_image.image.inline = b"nothing"
    verdict = await client.inference.ValidateGeneration(wanted, metadata=client.metadata)
    assert [broken.field for broken in verdict.violations] == [FIELD]


async def test_the_command_line_redraws_a_file(running: RunningServer, tmp_path: Path) -> None:
    source = tmp_path / "photo.jpg"
    PICTURE.save(source, quality=95)
    target = tmp_path / "redrawn.png"

    code, out, err = await run(
        *(sys.executable, "-m", "server.cli", "--server", running.address),
        *("--token-file", str(running.data_dir / "runtime" / "token")),
        *("generate", "a red apple", "--image", str(source), "--strength", "0.5"),
        *("--steps", "4", "-o", str(target), "--json"),
    )

    assert code == 0, err
    assert pixels(target.read_bytes()).shape == (256, 256, 3)
    assert objects(out)[-1]["state"] == "completed"
    assert not list((running.data_dir / "pictures").glob("*.source"))
