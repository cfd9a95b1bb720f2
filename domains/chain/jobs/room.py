"""What memory a chain takes, told from sizes alone, before anything of it is computed.

The factors are the most that the process took beyond what it had, on pictures of 4096 x 4096
pixels; `tests/domains/chain/backends/test_room.py` measures them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domains.chain.types import (
    DeblurStep,
    PadStep,
    RemoveBackgroundStep,
    ResizeStep,
    RotateStep,
    Size,
    Step,
    UpscaleStep,
    WatermarkStep,
    size_after,
)
from domains.model.core.enlarging import LEAST_TILE, enlarged_size, upscale_bytes
from domains.model.core.passes import passes, result_bytes
from domains.model.types import Model
from domains.values import ImageFileFormat

_COLOURS, _ALPHA = 3, 4
"""Bytes of a pixel, without and with how opaque it is."""
# For a pixel of a picture before a step or after it, whichever has more: what is made, and what
# is needed meanwhile. Steps that are not named work band by band.
_STEP_BYTES: Mapping[type[Step], int] = {
    DeblurStep: 28,
    RotateStep: 18,
    WatermarkStep: 15,
    ResizeStep: 14,
    PadStep: 8,
}
_BAND_STEP_BYTES = 12
_MAKE_ALPHA = (PadStep, RemoveBackgroundStep, RotateStep)
"""Steps after which a picture may have one."""
_FILE_BYTES: Mapping[ImageFileFormat, int] = {
    ImageFileFormat.PNG: 17,
    ImageFileFormat.JPEG: 11,
    ImageFileFormat.WEBP: 28,
    ImageFileFormat.AVIF: 53,
}
"""For a pixel of a picture while its file is made."""


def step_bytes(step: Step, size: Size, *, alpha: bool) -> int:
    """Main memory that a step takes beside the picture that it is given; of one with a network
    without what that takes on its device.

    Args:
        step: Checked, and what it names looked up.
        size: Width and height of the picture.
        alpha: Whether it has one.
    """
    if isinstance(step, UpscaleStep):
        factor = 0 if step.model is None else step.model.factor
        return enlarging_bytes(size, step.factor, factor, alpha=alpha)
    pixels = max(_pixels(size), _pixels(size_after(step, size)))
    return _STEP_BYTES.get(type(step), _BAND_STEP_BYTES) * pixels


def enlarging_bytes(size: Size, factor: float, by_network: int, *, alpha: bool) -> int:
    """Main memory that an enlargement takes beside the picture, its tiles left out.

    Args:
        size: Width and height of the picture.
        factor: Enlargement of an edge.
        by_network: That of one pass; 0 where it is not known, and then what passes make
            beyond what is wanted is left out.
        alpha: Whether the picture has one, which is enlarged after the colours.
    """
    wanted = enlarged_size(size, factor)
    most = _COLOURS * _pixels(wanted)
    todo = passes(size, wanted, by_network) if by_network else ()
    for number, each in enumerate(todo):
        then = todo[number + 1].taken if number + 1 < len(todo) else wanted
        taken = _COLOURS * _pixels(each.taken) if number else 0
        most = max(most, taken + result_bytes(each.given[1], then))
    if not alpha:
        return most
    # The colours are there meanwhile, and the alpha as a grey picture; at the end its three
    # channels become one.
    grey = _COLOURS * _pixels(size)
    return _COLOURS * _pixels(wanted) + grey + max(most, 2 * _COLOURS * _pixels(wanted))


def file_bytes(size: Size, format: ImageFileFormat) -> int:
    """Main memory that making a picture's file takes beside it."""
    return _FILE_BYTES[format] * _pixels(size)


def chain_bytes(
    steps: Sequence[Step], size: Size, format: ImageFileFormat, *, alpha: bool
) -> int:
    """The most main memory that a chain takes at once: pictures, steps and the file.

    Args:
        steps: Checked, and what they name looked up.
        size: Width and height of the picture before the first.
        format: Of the result's file.
        alpha: Whether the picture has one.
    """
    most = 0
    for step in steps:
        held = _held_bytes(size, alpha=alpha)
        most = max(most, held + step_bytes(step, size, alpha=alpha))
        size = size_after(step, size)
        alpha = alpha or isinstance(step, _MAKE_ALPHA)
    return max(most, _held_bytes(size, alpha=alpha) + file_bytes(size, format))


def network_bytes(
    steps: Sequence[Step], size: Size, models: Mapping[str, Model], number_bytes: int
) -> int:
    """The least that a chain's upscalers can do with on their device, one at a time: weights
    and the smallest tiles; 0 where nothing is known of them.

    Args:
        steps: As for `chain_bytes`.
        size: As there.
        models: Those that steps name, by their ids.
        number_bytes: Of a number that they compute with there.
    """
    most = 0
    for step in steps:
        model = None
        if isinstance(step, UpscaleStep) and step.model is not None:
            model = models.get(step.model.model_id)
        if isinstance(step, UpscaleStep) and model is not None and model.enlargement:
            own, weights = model.enlargement, model.parameter_count * number_bytes
            for each in passes(size, size_after(step, size), own.factor):
                needed = upscale_bytes(
                    weights,
                    each.taken,
                    LEAST_TILE,
                    own.factor,
                    own.numbers_per_pixel,
                    number_bytes,
                )
                most = max(most, needed)
        size = size_after(step, size)
    return most


def _held_bytes(size: Size, *, alpha: bool) -> int:
    return (_ALPHA if alpha else _COLOURS) * _pixels(size)


def _pixels(size: Size) -> int:
    return size[0] * size[1]
