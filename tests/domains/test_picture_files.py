"""What a file says it is, by its first and last bytes."""

from __future__ import annotations

import io
import random
from contextlib import suppress

import pytest
from PIL import Image

from domains.picture_files import NoPicture, measure
from domains.values import ImageFileFormat
from tests.fakes.pictures import png

EXIF = Image.Exif()
EXIF[0x010E] = "x" * 500


def saved(form: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (264, 320), (200, 30, 30)).save(file, form, **options)
    return file.getvalue()


KINDS = [
    (ImageFileFormat.PNG, saved("PNG")),
    (ImageFileFormat.PNG, png(264, 320, "text")),
    (ImageFileFormat.JPEG, saved("JPEG")),
    (ImageFileFormat.JPEG, saved("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(5000))),
    (ImageFileFormat.WEBP, saved("WEBP")),
    (ImageFileFormat.WEBP, saved("WEBP", lossless=True)),
    (ImageFileFormat.WEBP, saved("WEBP", exif=b"Exif\0\0" + bytes(500))),
    (ImageFileFormat.AVIF, saved("AVIF", speed=10)),
    (ImageFileFormat.AVIF, saved("AVIF", speed=10, mode="RGBA", exif=EXIF)),
]


@pytest.mark.parametrize(("form", "data"), KINDS)
def test_pictures_are_measured(form: ImageFileFormat, data: bytes) -> None:
    assert measure(io.BytesIO(data), len(data)) == (form, 264, 320)


@pytest.mark.parametrize(("form", "data"), KINDS)
def test_cut_pictures_are_none(form: ImageFileFormat, data: bytes) -> None:
    for length in (*range(40), len(data) // 2, len(data) - 1):
        with pytest.raises(NoPicture):
            measure(io.BytesIO(data[:length]), length)


def test_any_change_of_an_avif_is_a_picture_or_none() -> None:
    whole, chance = saved("AVIF", "RGBA", speed=10), random.Random(7)
    start = whole.index(b"mdat")
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(start)] = chance.choice((0, 1, 255, chance.randrange(256)))
        with suppress(NoPicture):
            form, width, height = measure(io.BytesIO(data), len(data))
            assert form is ImageFileFormat.AVIF
            assert min(width, height) > 0


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x10ftypavif\0\0\0\0",
        b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\x0cmeta\0\0\0\0",
        b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\0\x08free" * 2000,
        b"\0\0\0\x10ftypavif\0\0\0\0\0\0\0\1meta" + b"\xff" * 8,
        b"",
        bytes(100),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0" + bytes(50) + b"\xff\xd9",
        b"\xff\xd8" + b"\xff\xe0\0\2" * 2000 + b"\xff\xd9",
        b"RIFF\x18\0\0\0WEBPVP8?" + bytes(16),
        b"%PDF-1.4",
    ],
)
def test_other_files_are_none(data: bytes) -> None:
    with pytest.raises(NoPicture):
        measure(io.BytesIO(data), len(data))
