"""Pictures as people send them: by name, those that can be used and those that cannot."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import cache

from PIL import Image

from tests.domains.picture.drawn import painting, png, saved, wide_gamut


@cache
def good_pictures() -> Mapping[str, bytes]:
    """What has to be taken, however odd."""
    palette = painting().quantize(8)
    turned = Image.Exif()
    turned[0x0112] = 6
    more = [Image.new("RGB", (12, 8), "red")]
    colours = wide_gamut()
    grey = b"".join(b"\0" + struct.pack(">16H", *range(0, 65536, 4096)) for _ in range(16))
    return {
        "plain": saved(painting()),
        "of the drawn size": saved(painting(256, 256)),
        "one pixel": saved(painting(1, 1)),
        "a line": saved(painting(900, 1)),
        "a column": saved(painting(1, 900)),
        "16 bits": png(16, 16, bits=16, colour=0, rows=grey),
        "one bit": saved(painting().convert("1")),
        "grey with alpha": saved(painting().convert("LA")),
        "wholly transparent": saved(Image.new("RGBA", (20, 20), (9, 9, 9, 0))),
        "palette with alpha": saved(palette, transparency=bytes(range(0, 256, 32))),
        "CMYK": saved(painting().convert("CMYK"), "JPEG"),
        "turned by EXIF": saved(painting(), "JPEG", exif=turned.tobytes()),
        "turned PNG": saved(painting(), exif=turned.tobytes()),
        "broken EXIF": saved(painting(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "profile": saved(painting(), icc_profile=colours),
        "grey with a profile of colours": saved(painting().convert("LA"), icc_profile=colours),
        "CMYK with a profile of RGB": saved(
            painting().convert("CMYK"), "JPEG", icc_profile=colours
        ),
        "colours with a profile of grey": saved(
            painting(), icc_profile=colours.replace(b"RGB XYZ ", b"GRAYXYZ ")
        ),
        "colours with a profile of CMYK": saved(
            painting(), "JPEG", icc_profile=colours.replace(b"RGB XYZ ", b"CMYKLab ")
        ),
        "broken profile": saved(painting(), icc_profile=b"none" * 50),
        "two in a JPEG": saved(painting(), "MPO", save_all=True, append_images=more),
        "WebP": saved(painting().convert("RGBA"), "WEBP"),
        "black": saved(Image.new("RGB", (256, 256))),
        "white": saved(Image.new("L", (256, 256), 255)),
        "something after its end": saved(painting()) + b"PK\3\4" * 30,
    }


@cache
def bad_pictures() -> Mapping[str, bytes]:
    """What has to be refused."""
    more = [Image.new("RGB", (48, 32), colour) for colour in ("red", "blue")]
    animated = io.BytesIO()
    painting().save(animated, "WEBP", save_all=True, append_images=more)
    whole = saved(painting(200, 200), "JPEG")
    return {
        "nothing": b"",
        "one byte": b"\x89",
        "text": b"no picture",
        "GIF": saved(painting().quantize(8), "GIF"),
        "BMP": saved(painting(), "BMP"),
        "cut PNG": saved(painting(200, 200))[:500],
        "cut JPEG": whole[: len(whole) // 2],
        "animated WebP": animated.getvalue(),
        "animated PNG": saved(painting(), save_all=True, append_images=more),
        "huge header": png(100_000, 100_000, rows=b"\0"),
        "huge line": png(1, 60_000_000, colour=0, rows=b"\0"),
        "no size": png(0, 0, rows=b"\0"),
        "bad check sum": saved(painting()).replace(b"IHDR", b"IHDr", 1),
    }
