"""The texts inside picture files, without looking at a pixel: PNG, JPEG, WebP and AVIF.

Only headers and the texts themselves are read, each bounded: a file from somebody else costs
little, whatever it says. PNG: ISO/IEC 15948, 11.3.4. Exif: version 2.3, 4.6. WebP: RFC 9649, 2.
Boxes of an AVIF are Pillow's to read, which decodes no pixel for it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from server.cli.choices import UnusableOptions

_MOST_TEXT_BYTES = 1 << 22
_MOST_AVIF_BYTES = 1 << 27  # all of such a file is read
_MOST_PARTS = 100_000
"""Chunks or segments of a file that are looked at."""
_PNG = b"\x89PNG\r\n\x1a\n"
_DESCRIPTION, _USER_COMMENT, _EXIF_FOLDER = 0x010E, 0x9286, 0x8769
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # of Exif's element types that matter here


@dataclass(frozen=True)
class PictureTexts:
    """`full` is this server's own text, `shared` the one that other programs read as well; each
    empty where the file has none."""

    full: str = ""
    shared: str = ""


def read_texts(path: Path) -> PictureTexts:
    """What a picture's file says it was drawn with.

    Raises:
        UnusableOptions: It cannot be read, is no such picture, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise UnusableOptions(f"{path} cannot be read: {error.strerror or error}") from error
    except (struct.error, zlib.error, UnicodeDecodeError, _Damaged) as error:
        raise UnusableOptions(f"{path} is damaged: its texts cannot be read") from error


class _Damaged(Exception):
    pass


def _read(file: BinaryIO) -> PictureTexts:
    start = file.read(12)
    if start.startswith(_PNG):
        file.seek(len(_PNG))
        texts = dict(_png_texts(file))
        return PictureTexts(texts.get("deviceops", ""), texts.get("parameters", ""))
    if start.startswith(b"\xff\xd8"):
        file.seek(2)
        return _exif_texts(_jpeg_exif(file))
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return _exif_texts(_webp_exif(file))
    if start[4:] == b"ftypavif":
        return _exif_texts(_avif_exif(file))
    raise UnusableOptions(f"{file.name} is neither PNG nor JPEG nor WebP nor AVIF")


def _png_texts(file: BinaryIO) -> Iterator[tuple[str, str]]:
    for _ in range(_MOST_PARTS):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return
        length, kind = struct.unpack(">I4s", header)
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            body = _whole(file, length)
            key, _, rest = body.partition(b"\0")
            if key in (b"parameters", b"deviceops"):
                yield key.decode("ascii"), _png_text(kind, rest)
            file.seek(4, 1)  # the checksum
        else:
            file.seek(length + 4, 1)


def _png_text(kind: bytes, rest: bytes) -> str:
    """The text of a chunk, from what stands behind its keyword."""
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _inflated(rest[1:]).decode("latin-1")
    compressed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    return (_inflated(text) if compressed else text).decode("utf-8")


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MOST_TEXT_BYTES)
    if inflater.unconsumed_tail:
        raise _Damaged
    return text


def _jpeg_exif(file: BinaryIO) -> bytes:
    """The Exif part of a JPEG, from after its signature on; empty where there is none."""
    for _ in range(_MOST_PARTS):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):
            return b""  # the end, or pixels
        if marker[1] == 0xFF:  # a byte that fills a gap
            file.seek(-1, 1)
            continue
        (length,) = struct.unpack(">H", file.read(2))
        body = _whole(file, max(length - 2, 0))
        if marker[1] == 0xE1 and body.startswith(b"Exif\0\0"):
            return body[6:]
    return b""


def _webp_exif(file: BinaryIO) -> bytes:
    for _ in range(_MOST_PARTS):
        header = file.read(8)
        if len(header) < 8:
            return b""
        kind, length = struct.unpack("<4sI", header)
        if kind == b"EXIF":
            return _whole(file, length).removeprefix(b"Exif\0\0")
        file.seek(length + length % 2, 1)
    return b""


def _avif_exif(file: BinaryIO) -> bytes:
    """From the head of its TIFF on; empty where there is none."""
    from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile  # other formats need no Pillow

    if not SUPPORTED:
        raise UnusableOptions(f"{file.name} is an AVIF, and the Pillow here reads none")
    file.seek(0)
    data = file.read(_MOST_AVIF_BYTES + 1)
    if len(data) > _MOST_AVIF_BYTES:
        raise _Damaged
    try:
        # It warns of Exif that is damaged, which is read here anyway.
        with warnings.catch_warnings(action="ignore"), AvifImageFile(io.BytesIO(data)) as image:
            exif: bytes = image.info.get("exif", b"")
    except (OSError, RuntimeError, SyntaxError, ValueError) as error:
        raise _Damaged from error
    return exif.removeprefix(b"Exif\0\0")


def _whole(file: BinaryIO, length: int) -> bytes:
    data = file.read(length) if length <= _MOST_TEXT_BYTES else b""
    if len(data) != length:
        raise _Damaged
    return data


def _exif_texts(exif: bytes) -> PictureTexts:
    if not exif:
        return PictureTexts()
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        raise _Damaged
    (first,) = struct.unpack_from(order + "I", exif, 4)
    entries = _folder(exif, order, first)
    description = entries.get(_DESCRIPTION, b"").rstrip(b"\0").decode("utf-8", "replace")
    inner = entries.get(_EXIF_FOLDER, b"")
    comment = b""
    if len(inner) == 4:
        (place,) = struct.unpack(order + "I", inner)
        comment = _folder(exif, order, place).get(_USER_COMMENT, b"")
    full = description if description.startswith("{") else ""
    return PictureTexts(full, _comment(comment))


def _folder(exif: bytes, order: str, place: int) -> dict[int, bytes]:
    """The values of an image file directory, by tag."""
    (count,) = struct.unpack_from(order + "H", exif, place)
    found = {}
    for index in range(count):
        entry = place + 2 + 12 * index
        tag, kind, number = struct.unpack_from(order + "HHI", exif, entry)
        size = _SIZES.get(kind, 0) * number
        start = entry + 8
        if size > 4:
            (start,) = struct.unpack_from(order + "I", exif, start)
        value = exif[start : start + size]
        if len(value) != size:
            raise _Damaged
        found[tag] = value
    return found


def _comment(comment: bytes) -> str:
    """A user comment, which begins with the name of its characters' code."""
    code, text = comment[:8], comment[8:]
    if code != b"UNICODE\0":
        return text.rstrip(b"\0").decode("utf-8", "replace")
    # Which half of a character comes first is not said; most characters have a zero there.
    little = text[1::2].count(0) > text[0::2].count(0)
    return text.decode("utf-16-le" if little else "utf-16-be", "replace")
