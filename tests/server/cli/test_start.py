"""`deviceops generate` with a picture to start from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deviceops.v1 import common_pb2, generation_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import png, whole
from tests.server.cli.scripted import ScriptedServer

ARTIFACT = "a" * 64
SESSION = "8f14e45f-ceea-467f-a8f6-3b0f1d2c4e5a"


@pytest.fixture
def sent(against: Run, scripted: ScriptedServer, tmp_path: Path):  # type: ignore[no-untyped-def]
    """The settings that the server gets for options."""
    scripted.on_generate = lambda request, context: whole(png())

    def call(*options: object) -> generation_pb2.GenerationSettings:
        done = against("generate", "x", "-o", tmp_path / "out", *options)
        assert done.exit_code == 0, done.output
        return scripted.requests[-1].settings

    return call


def test_a_files_bytes_go_with_the_request(sent, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"some picture")

    settings = sent("--image", path, "--strength", 0.4, "--fit", "cover")

    assert settings.image_to_image == generation_pb2.ImageToImage(
        image=common_pb2.InputImage(inline=b"some picture"),
        strength=0.4,
        fit=common_pb2.RESIZE_FIT_COVER,
    )


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (ARTIFACT, common_pb2.InputImage(artifact_id=ARTIFACT)),
        (
            f"{SESSION}#2",
            common_pb2.InputImage(
                session_image=common_pb2.SessionImage(session_id=SESSION, image_index=2)
            ),
        ),
    ],
)
def test_what_the_server_has_is_named(sent, named, expected):
    start = sent("-i", named).image_to_image
    assert start == generation_pb2.ImageToImage(image=expected)


def test_a_file_too_large_for_a_message_is_stored_first(sent, scripted, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(b"\0" * 3_145_729)

    start = sent("--image", path).image_to_image

    stored = hashlib.sha256(path.read_bytes()).hexdigest()
    assert start.image.artifact_id == stored
    assert scripted.artifacts[stored] == path.read_bytes()


def test_a_part_of_a_picture_is_redrawn(sent, tmp_path):
    mask = tmp_path / "mask.png"
    mask.write_bytes(b"white and black")

    settings = sent(
        *("--inpaint", ARTIFACT, "--mask", mask, "--invert-mask", "--mask-blur", 2),
        *("--fill", "blur", "--margins", "8,0,16,24", "--crop-margin", 32),
        *("--keep-unmasked", "--strength", 1, "--fit", "contain"),
    )

    assert settings.inpainting == generation_pb2.Inpainting(
        image=common_pb2.InputImage(artifact_id=ARTIFACT),
        mask=common_pb2.InputImage(inline=b"white and black"),
        invert_mask=True,
        strength=1,
        fill=generation_pb2.INPAINTING_FILL_BLUR,
        mask_blur_pixels=2,
        crop_margin_pixels=32,
        keep_unmasked_pixels=True,
        fit=common_pb2.RESIZE_FIT_CONTAIN,
        margins=generation_pb2.OutpaintingMargins(
            left_pixels=8, top_pixels=0, right_pixels=16, bottom_pixels=24
        ),
    )


def test_one_margin_is_all_four(sent):
    margins = sent("--inpaint", ARTIFACT, "--margins", "64").inpainting.margins
    assert {value for _, value in margins.ListFields()} == {64}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--image", "nowhere.png"), "nowhere.png cannot be read"),
        (
            ("--strength", 0.5),
            "--strength is about a picture: name it with --image",
        ),
        (("--fit", "cover"), "--fit is about a picture: name it with --image or --inpaint"),
        (("--image", ARTIFACT, "--fit", "crop"), "'crop' is none of: stretch, contain, cover"),
        (("--image", ARTIFACT, "--mask", ARTIFACT), "--mask is about a picture: name it with"),
        (("--image", ARTIFACT, "--inpaint", ARTIFACT), "--inpaint redraws a part"),
        (("--inpaint", ARTIFACT, "--margins", "1,2"), "'1,2' is not LEFT,TOP,RIGHT,BOTTOM"),
        (("--inpaint", ARTIFACT, "--margins", "1,2,x,4"), "is not LEFT,TOP,RIGHT,BOTTOM"),
        (("--inpaint", ARTIFACT, "--fill", "red"), "'red' is none of: original, noise"),
    ],
)
def test_what_makes_no_request_is_told_before_any_call(against, scripted, options, said):
    done = against("generate", "x", *options)

    assert done.exit_code == 2
    assert said in done.stderr
    assert not scripted.requests


def test_a_folder_is_no_picture(against, tmp_path):
    done = against("generate", "x", "--image", tmp_path)
    assert done.exit_code == 2
    assert "cannot be read" in done.stderr
