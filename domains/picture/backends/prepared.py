"""Prepared pictures read back, by whoever works with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from domains.errors import Reason, Unavailable
from domains.picture.types import PreparedPicture
from domains.regular_files import TooLong, read_regular

Pixels = npt.NDArray[np.uint8]


def read_pixels(picture: PreparedPicture) -> Pixels:
    """The pixels that the front has prepared; no format is read here.

    Returns:
        uint8 `[height, width, 3]`, of a grey one `[height, width]`, of one with alpha
        `[height, width, 4]`.

    Raises:
        Unavailable: STORAGE_UNAVAILABLE, where the file is not as it was.
    """
    size_bytes = picture.size_bytes
    try:
        data = read_regular(picture.path, size_bytes)
    except (OSError, TooLong) as error:
        raise _lost() from error
    if len(data) != size_bytes:
        raise _lost()
    shape = (picture.height, picture.width)
    pixels = np.frombuffer(data, np.uint8)
    return pixels.reshape(shape if picture.grey else (*shape, 3 + picture.alpha))


def _lost() -> Unavailable:
    return Unavailable(
        "The prepared picture is not there any more; send the request again.",
        reason=Reason.STORAGE_UNAVAILABLE,
        retry_after=1.0,
    )
