"""Image prompts through the public contract: what reads their pictures is found, told and held
to, and nothing of them stays."""

from __future__ import annotations

import io
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from deviceops.v1 import inference_pb2, model_info_pb2, model_pb2
from tests.domains.model.image_prompts import PLAIN, PLUS, adapter_file, encoder_folder
from tests.domains.picture.drawn import saved
from tests.e2e.errors import refusal_of
from tests.e2e.uploading import uploaded
from tests.running import Client, small_request

FIELD = "settings.image_prompts[0]"
READER, ADAPTER = (
    model_info_pb2.MODEL_TYPE_IMAGE_ENCODER,
    model_info_pb2.MODEL_TYPE_IMAGE_PROMPT_ADAPTER,
)


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """Adapters, of which `look-plus` reads what two encoders give, and `look-plain` one's."""
    encoder_folder(models / "reader")
    encoder_folder(models / "other", projection_dim=48)
    for kind in (PLAIN, PLUS):
        adapter_file(models / f"look-{kind}.safetensors", kind)
    return models


def scene(colour: str = "#dd2211") -> bytes:
    image = Image.new("RGB", (300, 200), "#2244cc")
    ImageDraw.Draw(image).ellipse((50, 40, 140, 130), colour)
    return saved(image)


def pixels(drawn: dict[int, bytes]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(drawn[0])))


def looking(model_id: str = "look-plain") -> inference_pb2.GenerateRequest:
    request = small_request()
    prompt = request.settings.image_prompts.add(model_id=model_id, scale=0.8)
    prompt.images.add(inline=scene())
    return request


async def test_a_result_tells_its_image_prompts_and_leaves_none_behind(client: Client) -> None:
    _, plain = await client.draw(small_request())
    events, looked = await client.draw(looking())
    _, again = await client.draw(small_request())

    facts = events[-1].completed.generation
    told = facts.effective_settings.image_prompts[0]
    assert (told.model_id, told.image_encoder_model_id) == ("look-plain", "reader")
    assert (told.scale, told.start, told.end) == (0.8, 0, 1)
    assert [(model.model_id, model.type) for model in facts.models[1:]] == [
        ("look-plain", ADAPTER),
        ("reader", READER),
    ]
    assert plain != looked
    assert plain == again


async def test_pictures_by_artifact_and_a_mask(client: Client) -> None:
    request = looking("look-plus")
    prompt = request.settings.image_prompts[0]
    prompt.image_encoder_model_id = "other"
    prompt.images.add(artifact_id=await uploaded(client, scene("#22dd11")))
    _, everywhere = await client.draw(request)
    black = io.BytesIO()
    Image.new("L", (64, 64)).save(black, "PNG")
    prompt.mask.inline = black.getvalue()
    _, nowhere = await client.draw(request)
    _, plain = await client.draw(small_request())
    assert not np.array_equal(pixels(everywhere), pixels(plain))
    assert np.array_equal(pixels(nowhere), pixels(plain))


async def test_what_is_transparent_in_a_mask_is_white(client: Client) -> None:
    """As in every picture of whose alpha nothing else is said."""
    request = looking()
    _, everywhere = await client.draw(request)
    nothing = io.BytesIO()
    Image.new("LA", (64, 64)).save(nothing, "PNG")
    request.settings.image_prompts[0].mask.inline = nothing.getvalue()
    _, transparent = await client.draw(request)
    _, plain = await client.draw(small_request())
    assert not np.array_equal(pixels(transparent), pixels(plain))
    assert np.array_equal(pixels(transparent), pixels(everywhere))


async def test_an_encoder_has_to_be_named_where_several_would_do(client: Client) -> None:
    refusal = await refusal_of(client.draw(looking("look-plus")))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == [f"{FIELD}.image_encoder_model_id"]
    assert "other, reader" in refusal.message


async def test_an_encoder_that_does_not_fit_is_refused_with_both_names(client: Client) -> None:
    request = looking()
    request.settings.image_prompts[0].image_encoder_model_id = "other"
    refusal = await refusal_of(client.draw(request))
    assert refusal.fields == [f"{FIELD}.image_encoder_model_id"]
    assert "other" in refusal.message
    assert "look-plain" in refusal.message


async def test_what_is_no_adapter_is_refused(client: Client) -> None:
    refusal = await refusal_of(client.draw(looking("emoji-canny")))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.metadata["field"] == f"{FIELD}.model_id"


async def test_a_validation_tells_the_same(client: Client) -> None:
    request = inference_pb2.ValidateGenerationRequest(request=looking())
    answer = await client.inference.ValidateGeneration(request, metadata=client.metadata)
    assert answer.valid
    assert answer.effective_settings.image_prompts[0].image_encoder_model_id == "reader"
    request.request.settings.image_prompts[0].model_id = "look-plus"
    answer = await client.inference.ValidateGeneration(request, metadata=client.metadata)
    assert not answer.valid
    assert answer.violations[0].field == f"{FIELD}.image_encoder_model_id"


async def test_adapters_and_encoders_are_loaded_on_their_own(client: Client) -> None:
    for model_id in ("look-plain", "reader"):
        call = client.model.LoadModel(
            model_pb2.LoadModelRequest(model_id=model_id, warm_up=True),
            metadata=client.metadata,
        )
        events = [answer.event async for answer in call]
        assert events[-1].WhichOneof("event") == "completed"
