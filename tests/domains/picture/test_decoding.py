"""Pictures as people have them become upright sRGB; what else comes is refused by reason."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from domains.errors import Reason
from domains.picture.backends import decoding
from domains.picture.backends.decoding import decode
from domains.picture.errors import PictureRefused
from domains.picture.types import MOST_EDGE, MOST_PIXELS
from tests.domains.picture.drawn import chunk, painting, png, saved, wide_gamut


def decoded(data: bytes) -> npt.NDArray[np.int_]:
    image = decode(io.BytesIO(data))
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def refusal(data: bytes) -> PictureRefused:
    with pytest.raises(PictureRefused) as refused:
        decode(io.BytesIO(data))
    return refused.value


@pytest.mark.parametrize(
    ("format", "options", "close"),
    [
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 25),
        ("JPEG", {"quality": 98, "subsampling": 0}, 12),
        ("AVIF", {"quality": 98, "subsampling": "4:4:4", "speed": 10}, 12),
        ("JPEG", {"quality": 98, "subsampling": 0, "progressive": True}, 12),
    ],
)
def test_every_format_gives_its_pixels(format: str, options: dict[str, object], close: int):
    found = decoded(saved(painting(), format, **options))
    assert np.abs(found - np.asarray(painting()).astype(int)).mean() <= close


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_turned_picture_is_upright(orientation: int, format: str):
    """EXIF says how the camera was held; 5 to 8 swap the edges."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    good = {"quality": 98, "speed": 10}
    lossless = {"JPEG": good, "WEBP": {"lossless": True}, "PNG": {}, "AVIF": good}[format]
    data = saved(painting(), format, exif=exif.tobytes(), **lossless)
    turn = turns.get(orientation)
    upright = painting() if turn is None else painting().transpose(turn)

    found = decoded(data)

    assert found.shape == np.asarray(upright).shape
    assert np.abs(found - np.asarray(upright).astype(int)).mean() < 10


def test_exif_that_cannot_be_read_leaves_the_picture_whole():
    data = saved(painting(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(20))
    assert decoded(data).shape == (32, 48, 3)


def test_alpha_shows_white():
    image = painting().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 24, 32))
    alpha.paste(128, (24, 0, 36, 32))
    image.putalpha(alpha)
    for data in (saved(image), saved(image, "WEBP", lossless=True, exact=True)):
        found = decoded(data)
        plain = np.asarray(painting()).astype(int)
        assert (found[:, :24] == 255).all()
        assert np.abs(found[:, 24:36] - (plain[:, 24:36] + 255) / 2).max() <= 2
        assert np.array_equal(found[:, 36:], plain[:, 36:])


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P"])
def test_other_modes_look_the_same(mode: str):
    image = painting().convert("L") if mode in ("L", "1", "LA") else painting()
    image = image.convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.array_equal(decoded(saved(image)), expected)


def test_a_palette_may_have_a_transparent_colour():
    image = Image.new("P", (16, 16), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(0, (0, 0, 8, 16))
    found = decoded(saved(image, transparency=0))
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == (200, 100, 50)).all()


def test_a_colour_may_be_transparent():
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    image.paste((9, 9, 9), (4, 0, 8, 8))
    found = decoded(saved(image, transparency=(1, 2, 3)))
    assert (found[:, :4] == 255).all()
    assert (found[:, 4:] == 9).all()


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_are_scaled_to_8(colour: int):
    """Grey, RGB, grey and RGB with alpha; what is lost are the lower 8 bits."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    values = [0, 257 * 64, 257 * 128, 65_535]
    pixel = [[value] * channels for value in values]
    if colour in (4, 6):
        pixel = [[*row[:-1], 65_535] for row in pixel]
    rows = b"\0" + b"".join(struct.pack(f">{channels}H", *row) for row in pixel)
    found = decoded(png(4, 1, bits=16, colour=colour, rows=rows))
    assert found[0, :, 0].tolist() == [0, 64, 128, 255]


def test_cmyk_is_no_negative():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = decoded(saved(image, "JPEG", quality=98))
    assert (found[:, :, 0] > 240).all()
    assert (found[:, :, 1:] < 15).all()


def test_a_colour_profile_is_followed():
    """In a profile with red and green exchanged, the numbers of red are shown green."""
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    found = decoded(saved(image, icc_profile=wide_gamut()))
    assert (found[:, :, 1] > 250).all()
    assert (found[:, :, 0] < 5).all()
    transparent = image.convert("RGBA")
    transparent.putalpha(0)
    assert (decoded(saved(transparent, icc_profile=wide_gamut())) == 255).all()


def test_the_profile_of_srgb_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = decoded(saved(painting(), icc_profile=profile))
    assert np.array_equal(found, np.asarray(painting()).astype(int))


def test_a_linear_profile_is_followed_though_it_is_named_after_srgb():
    """As "sRGB-elle-V2-g10.icc", which Krita puts into files of its linear pictures."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        name, start, _ = struct.unpack(">4sII", profile[at : at + 12])
        if name.endswith(b"TRC"):
            profile[start : start + 12] = b"curv" + bytes(8)  # no curve
    opened = ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile)))
    assert (opened.profile.profile_description or "").startswith("sRGB")
    image = Image.new("RGB", (4, 4), (64, 64, 64))
    assert (decoded(saved(image, icc_profile=bytes(profile))) == 137).all()


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200, wide_gamut()[:300]])
def test_a_broken_profile_is_passed_over(profile: bytes):
    found = decoded(saved(painting(), icc_profile=profile))
    assert np.array_equal(found, np.asarray(painting()).astype(int))


def test_a_profile_of_another_colour_space_is_passed_over():
    found = decoded(saved(Image.new("L", (4, 4), 77), icc_profile=wide_gamut()))
    assert (found == 77).all()


def test_a_phones_jpeg_with_more_pictures_gives_the_first():
    depth = Image.new("L", (12, 8), 10).convert("RGB")
    data = saved(painting(), "MPO", save_all=True, append_images=[depth], quality=98)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO"
    assert decoded(data).shape == (32, 48, 3)


def frames(format: str) -> bytes:
    more = [Image.new("RGB", (48, 32), colour) for colour in ("red", "blue")]
    return saved(painting(), format, save_all=True, append_images=more)


def huge(width: int, height: int) -> bytes:
    return png(width, height, rows=b"\0" * 100)


def with_icc(compressed: bytes) -> bytes:
    data = chunk(b"iCCP", b"x\0\0" + compressed)
    return png(1, 1, rows=b"\0\1\2\3", before=data)


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        pytest.param(Reason.IMAGE_UNREADABLE, b"", id="nothing"),
        pytest.param(Reason.IMAGE_UNREADABLE, b"\x89", id="a byte"),
        pytest.param(Reason.IMAGE_UNREADABLE, b"hello " * 99, id="text"),
        pytest.param(Reason.IMAGE_UNREADABLE, saved(painting())[:-60], id="half a PNG"),
        pytest.param(Reason.IMAGE_UNREADABLE, saved(painting())[:20], id="half a header"),
        pytest.param(
            Reason.IMAGE_UNREADABLE, saved(painting(400, 300), "JPEG")[:3000], id="half a JPEG"
        ),
        pytest.param(
            Reason.IMAGE_UNREADABLE, saved(painting(), "WEBP")[:100], id="half a WebP"
        ),
        pytest.param(
            Reason.IMAGE_UNREADABLE,
            saved(painting()).replace(b"IHDR\0\0\0\x30", b"IHDR\0\0\0\x31"),
            id="a wrong sum",
        ),
        pytest.param(Reason.IMAGE_UNREADABLE, huge(8000, 8000), id="a header without pixels"),
        pytest.param(Reason.IMAGE_UNREADABLE, huge(0, 10), id="no width"),
        pytest.param(Reason.IMAGE_TOO_LARGE, huge(100_000, 100_000), id="a bomb"),
        pytest.param(Reason.IMAGE_TOO_LARGE, huge(13_300, 13_300), id="a small bomb"),
        pytest.param(Reason.IMAGE_TOO_LARGE, huge(1, 170_000_000), id="a thread"),
        pytest.param(Reason.IMAGE_TOO_LARGE, huge(MOST_EDGE + 1, 1), id="a long edge"),
        pytest.param(
            Reason.IMAGE_TOO_LARGE, huge(MOST_PIXELS // 8192 + 1, 8192), id="a row too many"
        ),
        pytest.param(Reason.IMAGE_TOO_LARGE, frames("PNG"), id="an animated PNG"),
        pytest.param(Reason.IMAGE_TOO_LARGE, frames("WEBP"), id="an animated WebP"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, frames("GIF"), id="GIF"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, saved(painting(), "BMP"), id="BMP"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, saved(painting(), "TIFF"), id="TIFF"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, saved(painting(), "ICO"), id="ICO"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, saved(painting(), "EPS"), id="EPS"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, frames("AVIF"), id="an animated AVIF"),
        pytest.param(
            Reason.IMAGE_UNREADABLE, saved(painting(), "AVIF", speed=10)[:-9], id="a cut AVIF"
        ),
        pytest.param(
            Reason.IMAGE_FORMAT_UNSUPPORTED, b"\0\0\0\x18ftypheic" + bytes(99), id="HEIC"
        ),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, b"8BPS\0\1" + bytes(99), id="PSD"),
        pytest.param(Reason.IMAGE_FORMAT_UNSUPPORTED, b"<svg xmlns=''/>", id="SVG"),
    ],
)
def test_what_cannot_be_used_is_refused(reason: Reason, data: bytes):
    assert refusal(data).reason is reason


def test_a_colour_profile_that_is_a_bomb_is_refused():
    bomb = zlib.compress(bytes(1 << 28), 1)  # made here: whoever collects tests need not wait
    assert refusal(with_icc(bomb)).reason is Reason.IMAGE_UNREADABLE


def test_a_refusal_says_what_to_do():
    assert "save it as PNG" in refusal(saved(painting(), "TIFF")).message
    assert "one frame" in refusal(frames("WEBP")).message
    assert str(MOST_PIXELS) in refusal(huge(100_000, 100_000)).message


def test_an_avif_is_refused_where_pillow_lacks_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoding, "_SIGNATURES", decoding._SIGNATURES[:3])
    found = refusal(saved(painting(), "AVIF", speed=10))
    assert found.reason is Reason.IMAGE_FORMAT_UNSUPPORTED
    assert "Is an AVIF" in found.message


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_any_change_of_a_file_is_a_picture_or_a_refusal(format: str):
    chance = random.Random(format)
    whole = saved(painting(), format)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8, 40))):
            data[chance.randrange(8, len(data))] = chance.randrange(256)
        cut = bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
        try:
            image = decode(io.BytesIO(cut))
        except PictureRefused:
            continue
        assert image.mode == "RGB"
