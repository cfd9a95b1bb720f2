"""Image prompts of `deviceops generate`."""

from __future__ import annotations

import pytest

from deviceops.v1 import common_pb2, generation_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import set_field
from server.cli.image_prompts import put_image_prompts
from server.cli.request import GenerationOptions, generate_request


def picture(named: str) -> common_pb2.InputImage:
    return common_pb2.InputImage(inline=named.encode())


def prompts_for(*texts: str) -> generation_pb2.GenerationSettings:
    settings = generation_pb2.GenerationSettings(image_prompts=[{"model_id": "of before"}])
    put_image_prompts(settings, texts, picture)
    return settings


def test_pictures_of_one_adapter_are_one_prompt() -> None:
    found = prompts_for("plus:a.png", "face:C:\\b.png:0.5:0.1:0.9", "plus:c:d.png:0")
    assert [
        (each.model_id, [image.inline for image in each.images]) for each in found.image_prompts
    ] == [("plus", [b"a.png", b"c:d.png"]), ("face", [b"C:\\b.png"])]
    plus, face = found.image_prompts
    assert (plus.HasField("scale"), plus.scale, plus.HasField("start")) == (True, 0, False)
    assert (face.scale, face.start, face.end) == (0.5, 0.1, 0.9)


def test_the_same_numbers_may_be_said_with_each_picture() -> None:
    (prompt,) = prompts_for("plus:a.png:0.5", "plus:b.png:0.5").image_prompts
    assert (prompt.scale, len(prompt.images)) == (0.5, 2)
    (prompt,) = prompts_for("plus:a.png").image_prompts
    assert not prompt.HasField("scale")


def test_without_the_option_those_of_a_picture_to_be_like_stay() -> None:
    assert [each.model_id for each in prompts_for().image_prompts] == ["of before"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("plus",), "ID:PICTURE"),
        ((":a.png",), "ID:PICTURE"),
        (("plus:",), "ID:PICTURE"),
        (("plus:a.png:0.5", "plus:b.png:0.6"), "pictures of plus are one prompt"),
        (("plus:a.png:0.5", "plus:b.png:0.5:0.1"), "say them with one picture"),
    ],
)
def test_what_makes_no_request(texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(UnusableOptions, match="--image-prompt") as refused:
        prompts_for(*texts)
    assert words in str(refused.value)


def test_other_fields_go_by_their_paths() -> None:
    options = GenerationOptions(
        "a cat",
        image_prompts=("plus:a.png",),
        assignments=(
            "image_prompts.0.start=0.2",
            "image_prompts.0.mask=m.png",
            "image_prompts.0.image_encoder_model_id=clip",
        ),
    )
    (prompt,) = generate_request(options, picture).settings.image_prompts
    assert (prompt.model_id, prompt.start, prompt.mask.inline) == ("plus", 0.2, b"m.png")
    assert prompt.image_encoder_model_id == "clip"
    settings = generation_pb2.GenerationSettings()
    set_field(settings, "image_prompts.0.images.0=a.png", picture)
    assert settings.image_prompts[0].images[0].inline == b"a.png"
