"""Pictures for tests, made here."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms


def painting(width: int = 48, height: int = 32) -> Image.Image:
    """Mode RGB: red grows to the right, green downwards, and the upper left corner is blue."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, np.zeros((height, width))], axis=-1)
    pixels[: height // 4, : width // 4, 2] = 255
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(
    width: int, height: int, *, bits: int = 8, colour: int = 2, rows: bytes, before: bytes = b""
) -> bytes:
    """A PNG of any header and content, `rows` with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def wide_gamut() -> bytes:
    """A profile whose primaries are sRGB's in another order: green is shown red."""
    profile = ImageCms.createProfile("sRGB")
    data = bytearray(ImageCms.ImageCmsProfile(profile).tobytes())
    at = data.index(b"rXYZ"), data.index(b"gXYZ")
    first, second = (bytes(data[place + 4 : place + 12]) for place in at)
    data[at[0] + 4 : at[0] + 12], data[at[1] + 4 : at[1] + 12] = second, first
    return bytes(data).replace(b"s\0R\0G\0B", b"o\0t\0h\0r").replace(b"sRGB", b"othr")
