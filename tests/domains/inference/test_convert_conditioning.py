"""Image prompts on the wire, and in what is laid over settings or kept for them."""

from __future__ import annotations

import json

from deviceops.v1 import common_pb2, conditioning_pb2, generation_pb2, inference_pb2
from domains.inference import types
from domains.inference.backends.parameters import full_text
from domains.inference.convert import (
    request_from_proto,
    settings_from_proto,
    settings_to_proto,
)
from domains.inference.convert.overlays import Layer, laid_over
from domains.picture.types import InputImage, PictureFile
from domains.session.convert.named import named_in
from server.cli.stated_settings import read_stated

A, B = "a" * 64, "b" * 64
PROMPT = types.ImagePrompt(
    "plus",
    "clip",
    scale=0.5,
    start=0.1,
    end=0.9,
    images=(PictureFile(A, artifact=True), PictureFile(B, artifact=False)),
    mask=PictureFile(B, artifact=True),
)
MESSAGE = conditioning_pb2.ImagePrompt(
    model_id="plus",
    image_encoder_model_id="clip",
    scale=0.5,
    start=0.1,
    end=0.9,
    images=[{"artifact_id": A}, {}],
    mask={"artifact_id": B},
)


def asked(*prompts: conditioning_pb2.ImagePrompt) -> inference_pb2.GenerateRequest:
    return inference_pb2.GenerateRequest(settings={"image_prompts": prompts})


def test_effective_settings_name_what_was_used_and_no_inline_picture() -> None:
    settings = types.GenerationSettings(image_prompts=(PROMPT,))
    assert list(settings_to_proto(settings).image_prompts) == [MESSAGE]


def test_what_is_left_out_is_the_default() -> None:
    plain = conditioning_pb2.ImagePrompt(model_id="plus", images=[{"inline": b"x"}])
    request = request_from_proto(asked(plain))
    assert request.settings.image_prompts == (types.ImagePrompt("plus"),)
    assert (PROMPT.scale, types.ImagePrompt().scale, types.ImagePrompt().end) == (0.5, 1, 1)
    assert request.unbuilt == ()


def test_pictures_and_masks_go_with_the_settings_that_name_them() -> None:
    plain = conditioning_pb2.ImagePrompt(model_id="face", images=[{"inline": b"x"}])
    request = request_from_proto(asked(MESSAGE, plain))
    assert [each.model_id for each in request.settings.image_prompts] == ["plus", "face"]
    assert request.image_prompts == (
        types.ImagePromptInput(
            (InputImage(artifact_id=A), InputImage()), InputImage(artifact_id=B)
        ),
        types.ImagePromptInput((InputImage(inline=b"x"),)),
    )


def test_another_picture_is_another_request() -> None:
    digests = {
        request_from_proto(
            asked(conditioning_pb2.ImagePrompt(model_id="plus", images=[{"inline": data}]))
        ).digest
        for data in (b"x", b"y")
    }
    assert len(digests) == 2


def test_accepted_work_keeps_what_they_name() -> None:
    request = asked(MESSAGE)
    request.settings.image_prompts[0].images[1].session_image.session_id = "s"
    named = named_in(request)
    assert set(named.artifacts) == {A, B}
    assert set(named.pictures) == {("s", 0)}


def test_overlays_replace_and_clear_them_whole() -> None:
    template = generation_pb2.GenerationSettings(image_prompts=[MESSAGE])
    other = generation_pb2.GenerationOverlay()
    other.settings.image_prompts.add(model_id="face")
    replaced, _ = laid_over(template, [Layer(other, "items[0].overlay")])
    assert [each.model_id for each in replaced.image_prompts] == ["face"]
    bare = generation_pb2.GenerationOverlay(cleared_fields={"paths": ["image_prompts"]})
    cleared, _ = laid_over(template, [Layer(bare, "items[1].overlay")])
    assert not cleared.image_prompts


def test_a_pictures_file_tells_them_and_is_read_back() -> None:
    settings = types.GenerationSettings(
        prompt="a", width=256, height=256, image_prompts=(PROMPT,)
    )
    text = full_text(settings, 7, data_types=())
    (stated,) = json.loads(text)["image_prompts"]
    assert (stated["model_id"], stated["image_encoder_model_id"]) == ("plus", "clip")
    read, notes = read_stated(text)
    assert list(read.image_prompts) == [MESSAGE]
    assert read.image_prompts[0].images[1] == common_pb2.InputImage()
    (note,) = notes
    assert "image_prompts[0].images[1]" in note
    again = settings_from_proto(read).image_prompts[0]
    assert (again.scale, again.start, again.end) == (0.5, 0.1, 0.9)
