"""What a picture's file says beside its pixels, made fit for a file of other pixels."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

from PIL import ExifTags, Image

from domains.errors import Reason
from domains.picture.backends.decoding import FORMATS
from domains.picture.backends.encoding import exif_with
from domains.picture.errors import PictureRefused
from domains.picture.types import MOST_METADATA_BYTES, MOST_TEXT_BYTES, PictureMetadata

PARAMETERS, SETTINGS = "parameters", "deviceops"
"""Keywords of a PNG's texts that hold the generation parameters."""
_DESCRIPTION, _USER_COMMENT = 0x010E, 0x9286
# What is about the file that it was: how it is turned, its size, where its strips, further
# pictures and thumbnails lie.
_OF_THE_FILE = (
    *(0x0100, 0x0101, 0x0111, 0x0112, 0x0116, 0x0117, 0x0142, 0x0143, 0x0144, 0x0145),
    *(0x014A, 0x0201, 0x0202),
)
_SIZE = (0xA002, 0xA003)
_TURNED = re.compile(
    rb'\s+tiff:Orientation\s*=\s*(?:"[^"]*"|\'[^\']*\')|'
    rb"<tiff:Orientation\b[^>]*(?:/>|>[^<]*</tiff:Orientation\s*>)"
)
_XMP_KEYWORD, _RAW = "XML:com.adobe.xmp", "Raw profile type"
_log = logging.getLogger("deviceops.files")


def read_metadata(file: BinaryIO, *, parameters: bool = True) -> PictureMetadata:
    """The EXIF, XMP and texts of a picture that has been decoded.

    EXIF comes without orientation, sizes and thumbnails, XMP without orientation: the pixels
    are upright, and may be others. EXIF that cannot be read is left out, and so are texts
    whose keywords are none of PNG's.

    Args:
        file: Open for reading.
        parameters: Keep those of a generation as well.

    Raises:
        PictureRefused: IMAGE_TOO_LARGE, it says more than is kept.
    """
    file.seek(0)
    with (
        warnings.catch_warnings(action="ignore"),
        Image.open(file, formats=FORMATS) as image,
    ):
        texts = _texts(getattr(image, "text", {}), parameters=parameters)
        found = image.info.get("xmp")
        xmp = _TURNED.sub(b"", found) if isinstance(found, bytes) else b""
        exif = _exif(image, parameters=parameters)
    plain = b"" if exif is None else exif.tobytes()
    for name, data in (("EXIF", plain), ("XMP", xmp)):
        if len(data) > MOST_METADATA_BYTES:
            raise _too_large(name, len(data), MOST_METADATA_BYTES)
    size = sum(len(key) + len(text.encode("utf-8", "replace")) for key, text in texts.items())
    if size > MOST_TEXT_BYTES:
        raise _too_large("text", size, MOST_TEXT_BYTES)
    with_texts = exif_with(exif, texts.get(PARAMETERS, ""), texts.get(SETTINGS, ""))
    return PictureMetadata(plain, with_texts, xmp, tuple(texts.items()))


def _texts(found: Mapping[str, str], *, parameters: bool) -> dict[str, str]:
    left_out = {_XMP_KEYWORD} if parameters else {_XMP_KEYWORD, PARAMETERS, SETTINGS}
    return {
        key: str(text)
        for key, text in found.items()
        if key not in left_out
        and not key.startswith(_RAW)
        and (1 <= len(key) <= 79 and key.isascii() and key.isprintable() and key == key.strip())
    }


def _exif(image: Image.Image, *, parameters: bool) -> Image.Exif | None:
    """None where there is nothing in it, or where it cannot be read and written again."""
    try:
        exif = image.getexif()
        inner: dict[int, Any] = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in _OF_THE_FILE:
            exif.pop(tag, None)
        for tag in _SIZE:
            inner.pop(tag, None)
        if not parameters:
            inner.pop(_USER_COMMENT, None)
            if str(exif.get(_DESCRIPTION, "")).startswith("{"):
                del exif[_DESCRIPTION]
        if not (exif or inner):
            return None
        # Read again, so that what is kept is what has been written.
        again = Image.Exif()
        again.load(exif.tobytes())
        again.get_ifd(ExifTags.IFD.Exif)
        again.tobytes()
    except Exception as error:
        # The library raises whatever the bytes lead to, and the rest of the file is whole.
        _log.info("the Exif data cannot be kept: %s", error)
        return None
    return again


def _too_large(name: str, size: int, most: int) -> PictureRefused:
    return PictureRefused(
        Reason.IMAGE_TOO_LARGE,
        f"Has {size} bytes of {name}, and at most {most} are kept; send it without, or leave "
        "source_metadata out.",
    )
