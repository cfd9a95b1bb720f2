"""PreviewControlImage through the public contract: a session with one picture."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw

from deviceops.v1 import (
    artifact_pb2,
    common_pb2,
    conditioning_pb2,
    event_pb2,
    inference_pb2,
    session_pb2,
)
from domains.picture.backends.control.preprocessing import control_picture
from domains.picture.types import CannyOptions, ControlPreprocessor
from tests.domains.chain.photograph import EYES, astronaut
from tests.domains.picture.drawn import painting, saved
from tests.e2e.errors import refusal_of
from tests.odd_pictures import bad_pictures, good_pictures
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


async def test_a_face_mask_has_the_size_of_its_picture(client: Client) -> None:
    """An inpainting mask must, and 285x271 is no size that is drawn."""
    request = request_of(Image.fromarray(astronaut()[:271, :285]))
    request.preprocessor.face_mask.padding = 0.1

    events, data = await made(client, request)

    mask = Image.open(io.BytesIO(data))
    (image,) = events[-1].completed.images
    assert mask.size == (image.width, image.height) == (285, 271)
    (x, y), _ = EYES
    assert mask.getpixel((x, y)) == (255, 255, 255)
    assert mask.getpixel((5, 5)) == (0, 0, 0)
    request.height = 256
    events, data = await made(client, request)
    assert Image.open(io.BytesIO(data)).size == (272, 256)
    request.preprocessor.face_mask.blur_pixels = 65
    refusal = await refusal_of(made(client, request))
    assert refusal.fields == ["preprocessor.face_mask.blur_pixels"]


AT_LIMITS: list[dict[str, Any]] = [
    {"canny": {"low": 0, "high": 0}},
    {"canny": {"low": 255, "high": 255}},
    {"soft_edge": {"radius_pixels": 0.1}},
    {"soft_edge": {"radius_pixels": 16}},
    {"line_art": {"threshold": 0}},
    {"line_art": {"threshold": 255}},
    {"scribble": {"stroke_pixels": 1}},
    {"scribble": {"stroke_pixels": 32}},
    {"grey": {}},
    {"tile": {"factor": 1}},
    {"tile": {"factor": 16}},
]
RESOLUTIONS = (0, 1, 2048)
# Beside the others: a line three pixels wide.
GOOD = {**good_pictures(), "2000x3": saved(painting(2000, 3))}


async def sees(client: Client, data: bytes, chosen: dict[str, Any], resolution: int) -> None:
    """A picture of the stated size, or of the picture's own brought into the range."""
    request = inference_pb2.PreviewControlImageRequest(
        image=common_pb2.InputImage(inline=data),
        preprocessor=conditioning_pb2.ControlPreprocessor(
            **chosen, resolution_pixels=resolution
        ),
    )
    if resolution == 2048:
        request.width, request.height = 264, 256
    events, file = await made(client, request)
    assert events[-1].HasField("completed"), events[-1]
    image, (told,) = Image.open(io.BytesIO(file)), events[-1].completed.images
    assert image.size == (told.width, told.height)
    assert all(256 <= side <= 2048 and side % 8 == 0 for side in image.size)
    if resolution == 2048:
        assert image.size == (264, 256)


async def refuses(client: Client, data: bytes, chosen: dict[str, Any]) -> None:
    """Whatever is wrong with a picture is said of the picture."""
    request = inference_pb2.PreviewControlImageRequest(
        image=common_pb2.InputImage(inline=data),
        preprocessor=conditioning_pb2.ControlPreprocessor(**chosen),
    )
    refusal = await refusal_of(made(client, request))
    assert (refusal.code.name, refusal.fields) == ("INVALID_ARGUMENT", ["image"]), refusal


@pytest.mark.parametrize("name", ["one pixel", "16 bits"])
async def test_an_odd_picture_is_taken(client: Client, name: str) -> None:
    for chosen in AT_LIMITS[1::4]:
        await sees(client, GOOD[name], chosen, 0)


@pytest.mark.parametrize("name", bad_pictures())
async def test_what_is_no_picture_is_refused(client: Client, name: str) -> None:
    await refuses(client, bad_pictures()[name], AT_LIMITS[0])


@pytest.mark.matrix
@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", GOOD)
async def test_every_preprocessor_takes_every_picture(
    client: Client, name: str, resolution: int
) -> None:
    for chosen in AT_LIMITS:
        await sees(client, GOOD[name], chosen, resolution)


@pytest.mark.matrix
@pytest.mark.parametrize("name", bad_pictures())
async def test_every_preprocessor_refuses_what_is_no_picture(client: Client, name: str) -> None:
    for chosen in AT_LIMITS:
        await refuses(client, bad_pictures()[name], chosen)


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
