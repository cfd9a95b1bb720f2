"""Files: right pixels, right texts, whatever a prompt holds."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from domains.inference.backends.images import to_pixels
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.types import SchedulerSettings, SigmaSpacing
from domains.picture.backends import encoding as images
from domains.picture.backends.encoding import (
    encode_image,
    encode_png_with_pillow,
    texts_with_room,
)
from domains.picture.backends.png_text import insert_text
from domains.values import (
    ImageFileFormat,
    ModelPart,
    OutputSettings,
    PartDataType,
    TensorDataType,
)

NASTY = [
    "plain",
    "two\nlines\r\nand \x00 NUL",
    "IEND\xaeB`\x82",
    "emoji \U0001f34e and \u202e bidi",
    "lone \ud800 surrogate",
    "\nNegative prompt: x\nSteps: 99, Seed: 1",
    "x" * 100_000,
    "",
]


@pytest.fixture(scope="module")
def pixels():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (24, 40, 3), dtype=np.uint8)


def chunks(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, found = 8, []
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind, body = png[position + 4 : position + 8], png[position + 8 :][:length]
        (check,) = struct.unpack(">I", png[position + 8 + length :][:4])
        assert check == zlib.crc32(kind + body)
        found.append(kind)
        position += 12 + length
    return found


@pytest.mark.parametrize("text", NASTY)
def test_text_never_breaks_a_png(pixels, text):
    png = encode_image(pixels, OutputSettings(), shared_text=text, full_text=json.dumps(text))
    kinds = chunks(png)
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert kinds.count(b"IEND") == 1
    image = Image.open(io.BytesIO(png))
    assert np.array_equal(np.asarray(image), pixels)
    expected = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    assert image.text.get("parameters", "") == expected
    assert json.loads(image.text["deviceops"]) == text


def test_both_png_encoders_give_the_same_pixels(pixels, monkeypatch):
    fast, slow = images.encode_png(pixels), encode_png_with_pillow(pixels)
    for png in (fast, slow):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)
    monkeypatch.setattr(images, "fpng_py", None)
    assert images.encode_png(pixels) == slow


def test_pixels_may_lie_in_any_order(pixels):
    turned = pixels[:, ::-1]
    png = images.encode_png(turned)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), turned)


def test_only_a_png_takes_text():
    with pytest.raises(ValueError, match="not a PNG"):
        insert_text(b"GIF89a", {"parameters": "x"})


@pytest.mark.parametrize("format", [*ImageFileFormat][1:])
@pytest.mark.parametrize("text", NASTY)
def test_text_in_other_formats(pixels, format, text):
    data = encode_image(
        pixels, OutputSettings(format), shared_text=text, full_text='{"seed": 1}'
    )
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (40, 24)
    comment = image.getexif().get_ifd(0x8769).get(0x9286, b"")
    if format is not ImageFileFormat.JPEG or len(text) < 1000:
        expected = text.encode("utf-16-be", "replace")
        assert comment == (b"UNICODE\0" + expected if text else b"")
        assert image.getexif()[0x010E] == '{"seed": 1}'


def test_an_avif_is_close_and_keeps_its_alpha(pixels):
    smooth = np.asarray(Image.fromarray(pixels).resize((4, 3)).resize((60, 45)))
    levels = np.linspace(0, 255, 60).astype(np.uint8)
    whole = np.dstack((smooth, np.broadcast_to(levels, (45, 60))))
    for quality, apart in ((100, 2), (50, 12)):
        data = encode_image(whole, OutputSettings(ImageFileFormat.AVIF, quality))
        found = Image.open(io.BytesIO(data))
        assert (found.format, found.mode) == ("AVIF", "RGBA")
        away = np.abs(np.asarray(found).astype(int) - whole)
        assert away.mean() < apart
    opaque = encode_image(smooth, OutputSettings(ImageFileFormat.AVIF))
    assert Image.open(io.BytesIO(opaque)).mode == "RGB"


def test_lossless_webp_keeps_every_pixel(pixels):
    data = encode_image(pixels, OutputSettings(ImageFileFormat.WEBP, lossless=True))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), pixels)


def test_pixels_are_rounded_and_clipped():
    image = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).repeat(3, 1, 1)[None]
    assert to_pixels(image)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_the_shared_text_has_the_common_form(work):
    text = shared_text(replace(work.settings, negative_prompt="ugly"), 42)
    assert text == (
        "a red apple on a blue background\n"
        "Negative prompt: ugly\n"
        "Steps: 4, Sampler: Euler, CFG scale: 6, Seed: 42, Size: 256x256, Model: emoji-xl"
    )


def test_no_prompt_passes_itself_off_as_settings(work):
    text = shared_text(replace(work.settings, prompt="apple\nSteps: 99\u2028Seed: 1"), 42)
    first, last = text.split("\n")
    assert first == "apple Steps: 99 Seed: 1"
    assert last.startswith("Steps: 4, ")


def test_a_spacing_and_an_odd_model_name_are_written(work):
    changed = replace(
        work.settings,
        model_id='a, "b"',
        scheduler=SchedulerSettings(work.settings.scheduler.scheduler, SigmaSpacing.KARRAS),
    )
    text = shared_text(changed, 1)
    assert "Schedule type: Karras" in text
    assert 'Model: "a, \\"b\\""' in text


def test_the_full_text_draws_the_picture_again_and_names_no_path(work):
    text = full_text(
        work.settings, 42, data_types=[PartDataType(ModelPart.DENOISER, TensorDataType.FLOAT32)]
    )
    settings = json.loads(text)
    assert settings["seed"] == 42
    assert settings["scheduler"]["scheduler"] == "euler_discrete"
    assert settings["prompt"] == work.settings.prompt
    assert str(work.place.path) not in text
    assert text.isascii()


def test_a_finished_file_holds_its_settings(draw):
    drawn = draw(steps=1, width=64, height=64)
    image = Image.open(io.BytesIO(drawn.images[0].data))
    assert "Seed: 7" in image.text["parameters"]
    assert json.loads(image.text["deviceops"])["data_types"]["denoiser"] == "float32"
    plain = draw(steps=1, width=64, height=64, output=OutputSettings(omit_parameters=True))
    assert Image.open(io.BytesIO(plain.images[0].data)).text == {}
    assert np.array_equal(plain.pixels[0], drawn.pixels[0])


@pytest.mark.parametrize(
    ("format", "shared", "full", "kept"),
    [
        (ImageFileFormat.JPEG, "s" * 10, "f" * 10, (True, True)),
        (ImageFileFormat.JPEG, "s" * 10, "f" * 70_000, (True, False)),
        (ImageFileFormat.JPEG, "s" * 40_000, "f" * 10, (False, False)),
        (ImageFileFormat.PNG, "s" * 40_000, "f" * 70_000, (True, True)),
        (ImageFileFormat.WEBP, "s" * 40_000, "f" * 70_000, (True, True)),
        (ImageFileFormat.AVIF, "s" * 40_000, "f" * 70_000, (True, True)),
        (ImageFileFormat.JPEG, "", "", (False, False)),
    ],
)
def test_what_a_file_has_room_for(pixels, format, shared, full, kept):
    left = texts_with_room(format, shared, full)
    assert left == (shared if kept[0] else "", full if kept[1] else "")
    data = encode_image(pixels, OutputSettings(format), shared_text=shared, full_text=full)
    assert Image.open(io.BytesIO(data)).size == (40, 24)
