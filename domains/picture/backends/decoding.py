"""A picture's file as upright pixels in sRGB, read by Pillow in a process that may die of it.

What a header says is checked before anything of its size is taken: format, frames, pixels.
Only four of Pillow's decoders can be reached, three where it lacks that of AVIF.
"""

from __future__ import annotations

import warnings
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from domains.avif_boxes import BRAND
from domains.errors import Reason
from domains.picture.backends.colour import to_grey, to_srgb
from domains.picture.errors import PictureRefused
from domains.picture.types import MOST_EDGE, MOST_PIXELS

_AVIF = bool(AvifImagePlugin.SUPPORTED)
FORMATS = ("PNG", "JPEG", "WEBP", *(("AVIF",) if _AVIF else ()))
"""Pillow's names of those that are read here."""
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", 0),
    (b"\xff\xd8\xff", 0),
    (b"WEBP", 8),
    *(((BRAND, 4),) if _AVIF else ()),
)
# What people have beside them, by a mark and where it stands.
_OTHERS = (
    (b"GIF8", 0, "a GIF"),
    (b"BM", 0, "a BMP"),
    (b"II*\0", 0, "a TIFF"),
    (b"MM\0*", 0, "a TIFF"),
    (b"8BPS", 0, "a Photoshop file"),
    (b"%!PS", 0, "PostScript"),
    (b"%PDF", 0, "a PDF"),
    (b"\0\0\1\0", 0, "an icon"),
    (b"\xff\x0a", 0, "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", 0, "a JPEG 2000"),
    (b"ftypheic", 4, "a HEIC"),
    (b"ftypheix", 4, "a HEIC"),
    (b"ftypmif1", 4, "a HEIC"),
    (BRAND, 4, "an AVIF"),
    (b"ftypavis", 4, "an animated AVIF"),
    (b"<svg", 0, "an SVG"),
    (b"<?xml", 0, "XML, perhaps an SVG"),
)
_HEAD_BYTES = 32
# The decoders are registered by their import, so that Pillow looks for no others.
assert {p.__name__ for p in (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)}
# Each more would take room of the process's limited memory.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
_NAMES = "PNG, JPEG, WebP or AVIF" if _AVIF else "PNG, JPEG or WebP"

Image.MAX_IMAGE_PIXELS = MOST_PIXELS


def decode(file: BinaryIO, *, grey: bool = False, keep_alpha: bool = False) -> Image.Image:
    """The picture, whole: mode RGB, upright, alpha on white.

    Of a JPEG that holds several pictures (as phones make them) it is the first.

    Args:
        file: Open for reading, at its beginning.
        grey: Mode L instead, by brightness; alpha and colour profiles do not count.
        keep_alpha: Mode RGBA instead where a pixel is not opaque.

    Raises:
        PictureRefused: IMAGE_FORMAT_UNSUPPORTED, IMAGE_TOO_LARGE or IMAGE_UNREADABLE.
    """
    _check_signature(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                _check_header(image)
                image.load()
                upright = _upright(image)
                if grey:
                    return to_grey(upright)
                return to_srgb(upright, keep_alpha=keep_alpha)
    except PictureRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels() from error
    except MemoryError as error:
        raise PictureRefused(
            Reason.IMAGE_TOO_LARGE, "Takes more memory to decode than one picture may have."
        ) from error
    except Exception as error:
        # The library raises whatever the bytes lead to.
        raise PictureRefused(
            Reason.IMAGE_UNREADABLE,
            "Cannot be decoded: the file is cut short or damaged. Save it again, or send "
            "another.",
        ) from error


def _check_signature(file: BinaryIO) -> None:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if any(head.startswith(mark, place) for mark, place in _SIGNATURES):
        return
    for mark, place, name in _OTHERS:
        if head.startswith(mark, place):
            raise PictureRefused(
                Reason.IMAGE_FORMAT_UNSUPPORTED,
                f"Is {name}; save it as {_NAMES}.",
            )
    raise PictureRefused(
        Reason.IMAGE_UNREADABLE, f"Is no picture: it begins like none that is {_NAMES}."
    )


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS or max(width, height) > MOST_EDGE:
        raise _too_many_pixels()
    # Further pictures in a JPEG are a depth map, a thumbnail or the like, and no animation.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise PictureRefused(
            Reason.IMAGE_TOO_LARGE, "Is animated; send one frame of it as a picture of its own."
        )


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:
        # The library raises whatever the bytes lead to, and the pixels are whole.
        return image


def _too_many_pixels() -> PictureRefused:
    return PictureRefused(
        Reason.IMAGE_TOO_LARGE,
        f"Must have at most {MOST_PIXELS} pixels, and {MOST_EDGE} along an edge; send it "
        "smaller.",
    )
