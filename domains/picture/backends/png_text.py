"""Text inside a finished PNG file, without touching its pixels.

Chunks as in the PNG specification (ISO/IEC 15948), sections 5.3 and 11.3.4.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AFTER_HEADER = len(_SIGNATURE) + 4 + 4 + 13 + 4


def insert_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """Splice one international text chunk per entry in after the image header.

    Args:
        png: A complete PNG file.
        texts: Keyword (1 to 79 printable ASCII characters) to text; anything a text holds is
            stored as UTF-8, except NUL, which the format forbids and which becomes U+FFFD.

    Raises:
        ValueError: `png` is not a PNG file, or a keyword is not allowed.
    """
    return _spliced(png, b"".join(_text_chunk(key, text) for key, text in texts.items()))


def _text_chunk(keyword: str, text: str) -> bytes:
    key = keyword.encode("ascii")
    if not 1 <= len(key) <= 79 or not keyword.isprintable():
        raise ValueError("not a keyword")
    # Keyword, no compression (two bytes), no language, no translated keyword.
    body = key + b"\0\0\0\0\0" + text.replace("\0", "\ufffd").encode("utf-8", "replace")
    return _chunk(b"iTXt", body)


def insert_exif(png: bytes, exif: bytes) -> bytes:
    """Splice EXIF in after the image header (PNG specification, third edition, 11.3.4.6).

    Args:
        png: A complete PNG file.
        exif: From the head of its TIFF on.

    Raises:
        ValueError: `png` is not a PNG file.
    """
    return _spliced(png, _chunk(b"eXIf", exif))


def _spliced(png: bytes, chunks: bytes) -> bytes:
    if not png.startswith(_SIGNATURE) or png[12:16] != b"IHDR":
        raise ValueError("not a PNG file")
    return png[:_AFTER_HEADER] + chunks + png[_AFTER_HEADER:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check
