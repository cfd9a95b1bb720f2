"""What a file keeps of its source's metadata, read by Pillow from real files."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from domains.errors import Reason
from domains.picture.backends.encoding import encode_image
from domains.picture.backends.metadata import read_metadata
from domains.picture.errors import PictureRefused
from domains.picture.types import PictureMetadata
from domains.values import ImageFileFormat, OutputSettings
from tests.domains.picture.drawn import painting, saved

ARTIST, ORIENTATION, DESCRIPTION, COMMENT = 0x013B, 0x0112, 0x010E, 0x9286
XMP = b'<x:xmpmeta><rdf:D tiff:Orientation="6" dc:title="x"/>%b</x:xmpmeta>'
TURNED = XMP % b"<tiff:Orientation>6</tiff:Orientation>"
PIXELS = np.zeros((8, 9, 3), np.uint8)
FORMATS = list(ImageFileFormat)


def exif() -> Image.Exif:
    found = Image.Exif()
    found[ARTIST] = "Ada"
    found[ORIENTATION] = 6
    inner = found.get_ifd(ExifTags.IFD.Exif)
    inner[0xA002], inner[0xA003], inner[0x829A] = 4000, 3000, 0.5
    found.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return found


def texts(**more: str) -> PngInfo:
    info = PngInfo()
    for key, text in {
        "parameters": "a cat\nSteps: 2",
        "deviceops": '{"seed": 1}',
        **more,
    }.items():
        info.add_itxt(key, text)
    return info


def kept(data: bytes, *, parameters: bool = True) -> PictureMetadata:
    return read_metadata(io.BytesIO(data), parameters=parameters)


def written(metadata: PictureMetadata, format: ImageFileFormat) -> Image.Image:
    data = encode_image(PIXELS, OutputSettings(format), metadata=metadata)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (9, 8)
    return image


def source(form: str) -> bytes:
    more = {"pnginfo": texts(Author="Ädä")} if form == "PNG" else {}
    options = {"speed": 10} if form == "AVIF" else {}
    if form != "PNG":
        options["xmp"] = TURNED
    return saved(painting(), form, exif=exif(), **more, **options)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_exif_and_xmp_go_from_every_format_to_every_other(
    form: str, format: ImageFileFormat
) -> None:
    found = written(kept(source(form)), format)

    again = found.getexif()
    assert again[ARTIST] == "Ada"
    assert ORIENTATION not in again
    inner = again.get_ifd(ExifTags.IFD.Exif)
    assert inner[0x829A] == 0.5
    assert not {0xA002, 0xA003} & set(inner)
    assert again.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    if form != "PNG":
        assert found.info["xmp"] == b'<x:xmpmeta><rdf:D dc:title="x"/></x:xmpmeta>'
    elif format is ImageFileFormat.PNG:
        assert found.text["Author"] == "Ädä"
        assert found.text["parameters"] == "a cat\nSteps: 2"
        assert found.text["deviceops"] == '{"seed": 1}'
        assert DESCRIPTION not in again
    else:
        # Generation parameters find a place in every format.
        assert again[DESCRIPTION] == '{"seed": 1}'
        assert inner[COMMENT] == b"UNICODE\0" + "a cat\nSteps: 2".encode("utf-16-be")


@pytest.mark.parametrize("format", FORMATS)
def test_parameters_can_be_left_out(format: ImageFileFormat) -> None:
    ours = encode_image(
        PIXELS, OutputSettings(ImageFileFormat.JPEG), shared_text="a", full_text='{"seed": 1}'
    )
    for data in (source("PNG"), ours):
        found = written(kept(data, parameters=False), format)
        assert not {"parameters", "deviceops"} & set(getattr(found, "text", {}))
        assert DESCRIPTION not in found.getexif()
        assert COMMENT not in found.getexif().get_ifd(ExifTags.IFD.Exif)


def test_a_thumbnail_is_not_kept() -> None:
    thumbnail = saved(painting().resize((16, 16)), "JPEG")
    with_one = exif()
    data = with_one.tobytes()[6:]
    # A second folder, which points at the thumbnail behind it.
    order = "little" if data[:2] == b"II" else "big"
    first = int.from_bytes(data[4:8], order)
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], order)
    entries = ((0x0201, 4, 1, len(data) + 30), (0x0202, 4, 1, len(thumbnail)))
    folder = (2).to_bytes(2, order)
    for tag, kind, count, value in entries:
        folder += tag.to_bytes(2, order) + kind.to_bytes(2, order)
        folder += count.to_bytes(4, order) + value.to_bytes(4, order)
    whole = data[:after] + len(data).to_bytes(4, order) + data[after + 4 :]
    whole += folder + bytes(4) + thumbnail
    photograph = saved(painting(), "JPEG", exif=b"Exif\0\0" + whole)
    assert Image.open(io.BytesIO(photograph)).getexif().get_ifd(ExifTags.IFD.IFD1)

    found = kept(photograph)

    assert thumbnail[:200] not in found.exif
    assert written(found, ImageFileFormat.JPEG).getexif()[ARTIST] == "Ada"


def test_a_picture_without_any_keeps_nothing() -> None:
    assert kept(saved(painting())) == PictureMetadata()
    for format in FORMATS:
        image = written(PictureMetadata(), format)
        assert not image.getexif()
        assert not getattr(image, "text", {})


@pytest.mark.parametrize(
    ("form", "options", "said"),
    [
        ("JPEG", {"xmp": b"x" * 60_001}, "60001 bytes of XMP"),
        ("PNG", {"pnginfo": texts(much="x" * 262_144)}, "of text"),
        ("WEBP", {"exif": "large"}, "of EXIF"),
    ],
)
def test_more_than_is_kept_is_refused(form: str, options: dict[str, object], said: str) -> None:
    if options.get("exif") == "large":
        large = exif()
        large[ARTIST] = "x" * 60_000
        options = {"exif": large}
    with pytest.raises(PictureRefused, match=said) as refused:
        kept(saved(painting(), form, **options))
    assert refused.value.reason is Reason.IMAGE_TOO_LARGE


def test_parameters_too_long_for_exif_stay_in_a_png() -> None:
    long = texts(deviceops="{" + "x" * 70_000)

    found = kept(saved(painting(), pnginfo=long))

    assert len(written(found, ImageFileFormat.PNG).text["deviceops"]) == 70_001
    jpeg = written(found, ImageFileFormat.JPEG).getexif()
    assert DESCRIPTION not in jpeg
    assert jpeg.get_ifd(ExifTags.IFD.Exif)[COMMENT]


@pytest.mark.parametrize("format", [ImageFileFormat.PNG, ImageFileFormat.JPEG])
def test_broken_exif_never_harms(format: ImageFileFormat) -> None:
    chance = random.Random(3)
    whole = exif().tobytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 3, 9))):
            data[chance.randrange(6, len(data))] = chance.choice(
                (0, 255, chance.randrange(256))
            )
        cut = bytes(data[: chance.choice((len(data), chance.randrange(14, len(data))))])
        written(kept(saved(painting(), "JPEG", exif=cut)), format).getexif()
    nothing = kept(saved(painting(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(9)))
    assert nothing == PictureMetadata()
