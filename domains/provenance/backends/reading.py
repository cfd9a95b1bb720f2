"""An inspector's work: all marks of a picture that nobody vouches for."""

from __future__ import annotations

import logging
import os
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image

from domains.errors import Reason
from domains.picture.backends.decoding import FORMATS, decode
from domains.picture.errors import PictureRefused
from domains.picture.types import MOST_BYTES
from domains.provenance.backends import manifests
from domains.provenance.backends.mark import confidence
from domains.provenance.errors import LibraryMissing, ReaderMissing
from domains.provenance.jobs import MOST_PARAMETERS, VerifyJob, VerifyReport
from domains.regular_files import open_regular
from domains.session.jobs import JobContext

# Of a larger picture the middle is looked at, as a mark is everywhere.
_MOST_EDGE = 2048
_log = logging.getLogger(__name__)
_EXIF_FOLDER = 0x8769
_USER_COMMENT = 0x9286
_DESCRIPTION = 0x010E
_UNICODE = b"UNICODE\0"


def verify(job: VerifyJob, context: JobContext) -> VerifyReport:
    """Read the marks of the job's picture.

    Raises:
        PictureRefused: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_FORMAT_UNSUPPORTED.
        ReaderMissing: Manifests cannot be read here.
    """
    with open(open_regular(job.source), "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            rule = f"Must have at most {MOST_BYTES} bytes; send it smaller."
            raise PictureRefused(Reason.IMAGE_TOO_LARGE, rule)
        image = decode(file)
        context.check_stop()
        file.seek(0)
        media, parameters = _told(file)
        file.seek(0)
        try:
            manifest = manifests.read(file, media, job.trust)
        except LibraryMissing:
            raise ReaderMissing from None
    context.check_stop()
    pixels = np.asarray(image.crop(_middle(*image.size)))
    sure = max((confidence(pixels, bytes.fromhex(key)) for key in job.keys), default=0.0)
    return VerifyReport(manifest, sure, parameters)


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    left, top = max(width - _MOST_EDGE, 0) // 2, max(height - _MOST_EDGE, 0) // 2
    return left, top, left + min(width, _MOST_EDGE), top + min(height, _MOST_EDGE)


def _told(file: BinaryIO) -> tuple[str, str]:
    """The file's media type, and the parameters in it: as other programs read them, else the
    full settings."""
    with (
        warnings.catch_warnings(action="ignore"),
        Image.open(file, formats=FORMATS) as image,
    ):
        media = image.get_format_mimetype() or ""
        texts: list[object] = [image.info.get("parameters"), image.info.get("deviceops")]
        try:
            exif = image.getexif()
            texts += [_comment(exif.get_ifd(_EXIF_FOLDER).get(_USER_COMMENT))]
            texts += [exif.get(_DESCRIPTION)]
        except Exception as error:
            # The library raises whatever the bytes lead to; the rest of the file is whole.
            _log.info("the Exif data cannot be read: %s", error)
    found = next((each for each in texts if isinstance(each, str) and each), "")
    return "image/jpeg" if media == "image/mpo" else media, found[:MOST_PARAMETERS]


def _comment(value: object) -> str:
    if not isinstance(value, bytes) or not value.startswith(_UNICODE):
        return ""
    return value.removeprefix(_UNICODE).decode("utf-16-be", "replace")
