"""Pixels as files: PNG, JPEG, WebP or AVIF, with what made them inside."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from domains.picture.backends.png_text import insert_exif, insert_text
from domains.picture.types import MOST_METADATA_BYTES, PictureMetadata
from domains.values import ImageFileFormat, OutputSettings

try:
    import fpng_py  # type: ignore[import-untyped]
except ImportError:  # no build for this platform: Pillow does it, slower
    fpng_py = None

Pixels = npt.NDArray[np.uint8]

# Deflate's fastest level: the next ones take several times as long for a few percent.
_PNG_LEVEL = 1
_EXIF_FOLDER = 0x8769
_USER_COMMENT = 0x9286
_IMAGE_DESCRIPTION = 0x010E
# A JPEG segment's length is 16 bits and includes a few bytes of structure.
_MAX_JPEG_EXIF_BYTES = 65_000
_EXIF = b"Exif\0\0"
_XMP_KEYWORD = "XML:com.adobe.xmp"
_WHITE = (255, 255, 255)
# Slower ones make files a fifth smaller, in seven times the time.
_AVIF_SPEED = 10


def encode_image(
    pixels: Pixels,
    output: OutputSettings,
    *,
    shared_text: str = "",
    full_text: str = "",
    metadata: PictureMetadata | None = None,
) -> bytes:
    """Encode one picture to a complete file.

    Args:
        pixels: uint8 `[height, width, 3]`, or 4 with an alpha; a JPEG shows white where that
            is transparent.
        output: Format and quality.
        shared_text: For a PNG's `parameters` text or Exif's user comment; may be empty.
        full_text: For a PNG's `deviceops` text or Exif's description, ASCII; may be empty.
        metadata: That of a source, in the place of the texts.

    Of the texts those are stored that `texts_with_room` leaves.
    """
    if metadata is not None:
        return _with_metadata(pixels, output, metadata)
    shared_text, full_text = texts_with_room(output.format, shared_text, full_text)
    if output.format is ImageFileFormat.PNG:
        texts = {"parameters": shared_text, "deviceops": full_text}
        return insert_text(encode_png(pixels), {k: text for k, text in texts.items() if text})
    return _with_exif(pixels, output, _exif(shared_text, full_text))


def _with_metadata(pixels: Pixels, output: OutputSettings, metadata: PictureMetadata) -> bytes:
    if output.format is not ImageFileFormat.PNG:
        return _with_exif(pixels, output, metadata.exif_with_texts, metadata.xmp)
    texts = dict(metadata.texts)
    if metadata.xmp:
        texts[_XMP_KEYWORD] = metadata.xmp.decode("utf-8", "replace")
    png = insert_text(encode_png(pixels), texts)
    return insert_exif(png, metadata.exif.removeprefix(_EXIF)) if metadata.exif else png


def _with_exif(pixels: Pixels, output: OutputSettings, exif: bytes, xmp: bytes = b"") -> bytes:
    """A file that is no PNG."""
    image = Image.fromarray(pixels)
    data = io.BytesIO()
    options: dict[str, Any] = {"quality": output.quality}
    if xmp:
        options["xmp"] = xmp
    if output.format is ImageFileFormat.WEBP:
        image.save(data, "WEBP", lossless=output.lossless, exif=exif, **options)
        return data.getvalue()
    # Full colour resolution at high quality, as the defaults halve it.
    options["subsampling"] = "4:4:4" if output.quality >= 90 else "4:2:0"
    if output.format is ImageFileFormat.AVIF:
        image.save(data, "AVIF", speed=_AVIF_SPEED, exif=exif, **options)
        return data.getvalue()
    if exif:
        options["exif"] = exif
    if image.mode == "RGBA":
        opaque = Image.new("RGB", image.size, _WHITE)
        opaque.paste(image, mask=image.getchannel("A"))
        image = opaque
    image.save(data, "JPEG", **options)
    return data.getvalue()


def texts_with_room(
    format: ImageFileFormat, shared_text: str, full_text: str
) -> tuple[str, str]:
    """What of a picture's texts its file can hold; what it cannot is empty.

    A JPEG has 64 KB for them. The full settings are the larger part, and go first: the
    shared text stands for itself.
    """
    if format is ImageFileFormat.JPEG:
        for kept in ((shared_text, full_text), (shared_text, "")):
            if len(_exif(*kept)) <= _MAX_JPEG_EXIF_BYTES:
                return kept
        return "", ""
    return shared_text, full_text


def encode_png(pixels: Pixels) -> bytes:
    """Encode uint8 `[height, width, 3]`, or 4, as PNG, without loss, as fast as can be here."""
    height, width, channels = pixels.shape
    if fpng_py is not None:
        encode = fpng_py.fpng_encode_image_to_memory
        return bytes(encode(np.ascontiguousarray(pixels), width, height, channels))
    return encode_png_with_pillow(pixels)


def encode_png_with_pillow(pixels: Pixels) -> bytes:
    """The slower way of `encode_png`, the same pixels."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=_PNG_LEVEL)
    return data.getvalue()


def exif_with(source: Image.Exif | None, shared_text: str, full_text: str) -> bytes:
    """A source's EXIF with what of the texts it lacks and a JPEG has room for, beginning with
    "Exif"; nothing where there is nothing in it. The full text goes first, as in
    `texts_with_room`."""
    plain = b"" if source is None else source.tobytes()
    for texts in ((shared_text, full_text), (shared_text, "")):
        found = _filled(plain, *texts)
        if len(found) <= MOST_METADATA_BYTES:
            return found
    return plain


def _exif(shared_text: str, full_text: str) -> bytes:
    return _filled(b"", shared_text, full_text)


def _filled(plain: bytes, shared_text: str, full_text: str) -> bytes:
    if not shared_text and not full_text:
        return plain
    exif = Image.Exif()
    exif.load(plain)
    if full_text and _IMAGE_DESCRIPTION not in exif:
        exif[_IMAGE_DESCRIPTION] = full_text
    inner = exif.get_ifd(_EXIF_FOLDER)
    if shared_text and _USER_COMMENT not in inner:
        # Exif 2.3, section 4.6.5: eight bytes name the character code of the comment.
        comment = b"UNICODE\0" + shared_text.encode("utf-16-be", "replace")
        inner[_USER_COMMENT] = comment
    return exif.tobytes()
