"""ControlNets of a generation through the public contract."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import grpc
import pytest
from diffusers import ControlNetModel
from PIL import Image, ImageDraw

from deviceops.v1 import common_pb2, inference_pb2, model_info_pb2, model_pb2
from tests.domains.model.disk import DEMO
from tests.domains.picture.drawn import saved
from tests.e2e.errors import refusal_of
from tests.running import Client, small_request

CANNY = "emoji-canny"
FIELD = "settings.control_nets[0]"


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """Beside the demo's models, a ControlNet for SD 1.x."""
    ControlNetModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=768,
        norm_num_groups=16,
        layers_per_block=1,
    ).save_pretrained(models / "older")
    return models


def scene() -> bytes:
    image = Image.new("RGB", (300, 300), "#2244cc")
    ImageDraw.Draw(image).ellipse((150, 40, 240, 130), "#dd2211")
    return saved(image)


def following(model_id: str = CANNY) -> inference_pb2.GenerateRequest:
    request = small_request()
    net = request.settings.control_nets.add(model_id=model_id)
    net.image.inline = scene()
    net.preprocessor.canny.low = 60
    return request


async def test_a_result_tells_its_control_nets_and_leaves_none_behind(client: Client) -> None:
    _, plain = await client.draw(small_request())
    events, followed = await client.draw(following())
    _, again = await client.draw(small_request())

    facts = events[-1].completed.generation
    told = facts.effective_settings.control_nets[0]
    assert (told.model_id, told.conditioning_scale, told.end) == (CANNY, 1, 1)
    assert (told.preprocessor.canny.low, told.preprocessor.canny.high) == (60, 200)
    assert told.fit == common_pb2.RESIZE_FIT_STRETCH
    assert [(model.model_id, model.type) for model in facts.models[1:]] == [
        (CANNY, model_info_pb2.MODEL_TYPE_CONTROL_NET)
    ]
    assert plain != followed
    assert plain == again


async def test_what_the_preview_shows_is_what_is_followed(client: Client) -> None:
    request = following()
    _, wanted = await client.draw(request)
    net = request.settings.control_nets[0]
    preview = inference_pb2.PreviewControlImageRequest(
        image=net.image, preprocessor=net.preprocessor, width=256, height=256
    )
    events = [
        response.event
        async for response in client.inference.PreviewControlImage(
            preview, metadata=client.metadata
        )
    ]
    net.ClearField("preprocessor")
    net.image.session_image.session_id = events[0].session_id
    done, found = await client.draw(request)

    # The files differ in the settings that they tell.
    assert pixels(found[0]) == pixels(wanted[0])
    named = done[-1].completed.generation.effective_settings.control_nets[0].image
    assert named.artifact_id == events[-1].completed.images[0].artifact_id


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).tobytes()


def unguided(request: Any) -> None:
    request.settings.control_nets[0].guess_mode = True
    request.settings.guidance.scale = 1


def backwards(request: Any) -> None:
    request.settings.control_nets[0].start = 0.5
    request.settings.control_nets[0].end = 0.4


def without_picture(request: Any) -> None:
    request.settings.control_nets[0].ClearField("image")


def with_two(request: Any) -> None:
    net = request.settings.control_nets[0]
    net.images.add().CopyFrom(net.image)
    net.images.add().CopyFrom(net.image)


def too_strong(request: Any) -> None:
    request.settings.control_nets[0].conditioning_scale = 2.5


def torn(request: Any) -> None:
    request.settings.control_nets[0].image.inline = scene()[:-40]


def torn_mask(request: Any) -> None:
    request.settings.control_nets[0].mask.inline = b"?"


def levels(request: Any) -> None:
    request.settings.control_nets[0].preprocessor.canny.high = 256


def older(request: Any) -> None:
    request.settings.control_nets[0].model_id = "older"


def nobody(request: Any) -> None:
    request.settings.control_nets[0].model_id = "nobody"


def checkpoint(request: Any) -> None:
    request.settings.control_nets[0].model_id = DEMO.name


def union(request: Any) -> None:
    request.settings.control_nets[0].control_type = 4


def posed(request: Any) -> None:
    request.settings.control_nets[0].preprocessor.postprocessor_id = "pose"


@pytest.mark.parametrize(
    ("change", "code", "reason", "fields"),
    [
        (unguided, "INVALID_ARGUMENT", "FIELDS_CONFLICT", [f"{FIELD}.guess_mode"]),
        (backwards, "INVALID_ARGUMENT", "FIELDS_CONFLICT", [f"{FIELD}.end"]),
        (without_picture, "INVALID_ARGUMENT", "REQUIRED_FIELD_MISSING", [f"{FIELD}.image"]),
        (
            with_two,
            "INVALID_ARGUMENT",
            "FIELDS_CONFLICT",
            [f"{FIELD}.images", f"{FIELD}.images"],
        ),
        (too_strong, "INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", [f"{FIELD}.conditioning_scale"]),
        (torn, "INVALID_ARGUMENT", "IMAGE_UNREADABLE", [f"{FIELD}.image"]),
        (torn_mask, "INVALID_ARGUMENT", "IMAGE_UNREADABLE", [f"{FIELD}.mask"]),
        (
            levels,
            "INVALID_ARGUMENT",
            "FIELD_OUT_OF_RANGE",
            [f"{FIELD}.preprocessor.canny.high"],
        ),
        (older, "INVALID_ARGUMENT", "FIELDS_CONFLICT", [f"{FIELD}.model_id"]),
        (nobody, "NOT_FOUND", "MODEL_NOT_FOUND", []),
        (checkpoint, "NOT_FOUND", "MODEL_NOT_FOUND", []),
        (union, "INVALID_ARGUMENT", "FIELDS_CONFLICT", [f"{FIELD}.control_type"]),
        (posed, "UNIMPLEMENTED", "NOT_BUILT", []),
    ],
)
async def test_refused_before_the_device(
    client: Client, change: Any, code: str, reason: str, fields: list[str]
) -> None:
    request = following()
    change(request)
    refusal = await refusal_of(client.draw(request))
    assert (refusal.code, refusal.reason) == (getattr(grpc.StatusCode, code), reason)
    assert refusal.fields == fields


async def test_a_validation_tells_the_same(client: Client) -> None:
    request = following("older")
    answer = await client.inference.ValidateGeneration(
        inference_pb2.ValidateGenerationRequest(request=request), metadata=client.metadata
    )
    (violation,) = answer.violations
    assert violation.field == f"{FIELD}.model_id"
    assert "older is a ControlNet for SD1" in violation.description
    assert f"{DEMO.name} is SDXL" in violation.description


async def test_the_catalogue_has_no_reservation_about_control_nets(client: Client) -> None:
    request = model_pb2.GetModelRequest(model_id=CANNY)
    answer = await client.model.GetModel(request, metadata=client.metadata)
    assert list(answer.model.remarks) == []
