"""An inspector's work on a picture: from a client's file to plain pixels, and from those to a
control picture."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from domains.errors import Reason
from domains.picture.backends.control.preprocessing import control_picture
from domains.picture.backends.decoding import decode
from domains.picture.backends.fitting import fitted
from domains.picture.backends.metadata import read_metadata
from domains.picture.errors import PictureRefused
from domains.picture.jobs import (
    ControlImageJob,
    ControlImageReport,
    PictureJob,
    PictureReport,
    ThumbnailJob,
    ThumbnailReport,
)
from domains.picture.types import MOST_BYTES
from domains.regular_files import open_regular, read_regular
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted

_WEBP_QUALITY = 80


def prepare(job: PictureJob, context: JobContext) -> PictureReport:
    """Write the picture's pixels into the job's file, which is there and empty.

    Raises:
        PictureRefused: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_FORMAT_UNSUPPORTED.
        OSError: The disk fails or is full.
    """
    with _opened(job.source) as file:
        image = decode(file, grey=job.grey, keep_alpha=job.keep_alpha)
        wish = job.metadata
        metadata = None if wish is None else read_metadata(file, parameters=wish.parameters)
    size = job.canvas.size_for(*image.size)
    picture = fitted(image, size, job.fit)
    if job.control is not None:
        picture = control_picture(picture, job.control)
    with open(open_regular(job.target, os.O_WRONLY), "wb") as file:
        file.write(picture.tobytes())
    if not job.grey:
        alpha = picture.mode == "RGBA"
        return PictureReport(*size, *image.size, alpha=alpha, metadata=metadata)
    values = np.asarray(picture)
    return PictureReport(*size, *image.size, int(values.min()), int(values.max()))


def make_thumbnail(job: ThumbnailJob, context: JobContext) -> ThumbnailReport:
    """Write the small picture into the job's file, which is there and empty.

    Raises:
        PictureRefused: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_FORMAT_UNSUPPORTED.
        OSError: The disk fails or is full.
    """
    with _opened(job.source) as file:
        image = decode(file, keep_alpha=True)
    edge = job.edge_pixels
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    with open(open_regular(job.target, os.O_WRONLY), "wb") as file:
        image.save(file, "WEBP", quality=_WEBP_QUALITY, alpha_quality=_WEBP_QUALITY)
    return ThumbnailReport(*image.size)


def make_control_image(job: ControlImageJob, context: JobContext) -> ControlImageReport:
    """Write the control picture into the job's file, which is there and empty.

    Raises:
        OSError: The disk fails or is full.
    """
    context.emit(PhaseStarted(Phase.PREPARING_INPUT))
    begun = time.perf_counter()
    source = job.source
    pixels = read_regular(source.path, source.size_bytes)
    image = Image.frombytes("RGB", (source.width, source.height), pixels)
    made = control_picture(image, job.control)
    context.emit(PhaseStarted(Phase.ENCODING_IMAGE))
    prepared = time.perf_counter()
    with open(open_regular(job.target, os.O_WRONLY), "wb") as file:
        made.save(file, "PNG")
    return ControlImageReport(prepared - begun, time.perf_counter() - prepared)


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """A picture's file, if it is not too large to be one."""
    with open(open_regular(source), "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            rule = f"Must have at most {MOST_BYTES} bytes; send it smaller."
            raise PictureRefused(Reason.IMAGE_TOO_LARGE, rule)
        yield file
