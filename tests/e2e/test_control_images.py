"""PreviewControlImage through the public contract: a session with one picture."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw

from deviceops.v1 import artifact_pb2, event_pb2, inference_pb2, session_pb2
from domains.picture.backends.control.preprocessing import control_picture
from domains.picture.types import CannyOptions, ControlPreprocessor
from tests.domains.picture.drawn import saved
from tests.e2e.errors import refusal_of
from tests.running import Client, RunningServer


@pytest.fixture(scope="module")
def running(server: RunningServer) -> RunningServer:
    """The shared one: these tests leave it as it was."""
    return server


def square(width: int = 264, height: int = 256) -> Image.Image:
    image = Image.new("RGB", (width, height), "navy")
    ImageDraw.Draw(image).rectangle((60, 50, 140, 120), "orange")
    return image


def request_of(image: Image.Image) -> inference_pb2.PreviewControlImageRequest:
    request = inference_pb2.PreviewControlImageRequest()
    request.image.inline = saved(image)
    request.preprocessor.canny.low = 50
    return request


async def made(client: Client, request: Any) -> tuple[list[event_pb2.SessionEvent], bytes]:
    events = [
        response.event
        async for response in client.inference.PreviewControlImage(
            request, metadata=client.metadata
        )
    ]
    return events, b"".join(e.image_chunk.data for e in events if e.HasField("image_chunk"))


async def test_the_picture_comes_in_the_stream_and_stays(client: Client) -> None:
    events, data = await made(client, request_of(square()))

    assert events[0].accepted.kind == session_pb2.SESSION_KIND_CONTROL_IMAGE
    assert events[-1].HasField("completed")
    image = events[-1].completed.images[0]
    assert (image.width, image.height, image.HasField("seed")) == (264, 256, False)
    wanted = control_picture(square(), ControlPreprocessor(CannyOptions(50)))
    assert Image.open(io.BytesIO(data)).tobytes() == wanted.tobytes()
    stored = [
        part.data
        async for part in client.artifact.DownloadArtifact(
            artifact_pb2.DownloadArtifactRequest(artifact_id=image.artifact_id),
            metadata=client.metadata,
        )
    ]
    assert b"".join(stored) == data
    assert list(events[0].accepted.expected_phases) == [
        session_pb2.PHASE_QUEUED,
        session_pb2.PHASE_PREPARING_INPUT,
        session_pb2.PHASE_ENCODING_IMAGE,
    ]
    # Used as it is: grey levels of a black and white picture are that picture.
    again = inference_pb2.PreviewControlImageRequest()
    again.image.session_image.session_id = events[0].session_id
    again.preprocessor.grey.SetInParent()
    _, same = await made(client, again)
    assert Image.open(io.BytesIO(same)).tobytes() == wanted.tobytes()


def with_width(request: Any) -> None:
    request.width = 257


def with_levels(request: Any) -> None:
    request.preprocessor.canny.low = 201


def with_nothing(request: Any) -> None:
    request.preprocessor.Clear()
    request.preprocessor.SetInParent()


def with_model(request: Any) -> None:
    request.preprocessor.postprocessor_id = "pose"


def with_device(request: Any) -> None:
    request.placement.device_id = "cpu:0"


def with_scrap(request: Any) -> None:
    request.image.inline = b"no picture"


def with_radius(request: Any) -> None:
    request.preprocessor.soft_edge.radius_pixels = 17


def with_resolution(request: Any) -> None:
    request.preprocessor.resolution_pixels = -1


@pytest.mark.parametrize(
    ("change", "code", "reason", "fields"),
    [
        (with_width, "INVALID_ARGUMENT", "DIMENSIONS_INVALID", ["width"]),
        (with_levels, "INVALID_ARGUMENT", "FIELDS_CONFLICT", ["preprocessor.canny.low"]),
        (with_nothing, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", ["preprocessor"]),
        (with_model, "UNIMPLEMENTED", "NOT_BUILT", []),
        (with_device, "INVALID_ARGUMENT", "FIELDS_CONFLICT", ["placement"]),
        (with_scrap, "INVALID_ARGUMENT", "IMAGE_UNREADABLE", ["image"]),
        (
            with_radius,
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            ["preprocessor.soft_edge.radius_pixels"],
        ),
        (
            with_resolution,
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            ["preprocessor.resolution_pixels"],
        ),
    ],
)
async def test_refused(
    client: Client, change: Any, code: str, reason: str, fields: list[str]
) -> None:
    request = request_of(square())
    change(request)
    refusal = await refusal_of(made(client, request))
    assert (refusal.code.name, refusal.reason, refusal.fields) == (code, reason, fields)
