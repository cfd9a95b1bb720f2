"""An inspector's work on a picture: from a client's file to plain pixels."""

from __future__ import annotations

import os

import numpy as np

from domains.errors import Reason
from domains.picture.backends.decoding import decode
from domains.picture.backends.fitting import fitted
from domains.picture.errors import PictureRefused
from domains.picture.jobs import PictureJob, PictureReport
from domains.picture.types import MOST_BYTES
from domains.regular_files import open_regular
from domains.session.jobs import JobContext


def prepare(job: PictureJob, context: JobContext) -> PictureReport:
    """Write the picture's pixels into the job's file, which is there and empty.

    Raises:
        PictureRefused: IMAGE_UNREADABLE, IMAGE_TOO_LARGE or IMAGE_FORMAT_UNSUPPORTED.
        OSError: The disk fails or is full.
    """
    with open(open_regular(job.source), "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            rule = f"Must have at most {MOST_BYTES} bytes; send it smaller."
            raise PictureRefused(Reason.IMAGE_TOO_LARGE, rule)
        image = decode(file, grey=job.grey)
    size = job.canvas.size_for(*image.size)
    prepared = fitted(image, size, job.fit)
    with open(open_regular(job.target, os.O_WRONLY), "wb") as file:
        file.write(prepared.tobytes())
    if not job.grey:
        return PictureReport(*size, *image.size)
    values = np.asarray(prepared)
    return PictureReport(*size, *image.size, int(values.min()), int(values.max()))
