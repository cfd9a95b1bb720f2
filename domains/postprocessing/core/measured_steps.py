"""Which step is measured of each postprocessor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domains.chain.core.preparing import NON_LOCAL_MEANS
from domains.chain.errors import PostprocessorMissing
from domains.chain.types import (
    ColorStep,
    CropStep,
    DeblurStep,
    DenoiseMethod,
    DenoiseStep,
    FaceRestoreStep,
    LutStep,
    PadMode,
    PadStep,
    RemoveBackgroundStep,
    ResizeStep,
    RotateStep,
    SharpenStep,
    Size,
    Step,
    UpscaleStep,
    WatermarkStep,
)
from domains.postprocessing.types import Postprocessor, PostprocessorKind

MEASURED: Mapping[PostprocessorKind, Callable[[Size], Step]] = {
    PostprocessorKind.SHARPEN: lambda _size: SharpenStep(),
    PostprocessorKind.DENOISE: lambda _size: DenoiseStep(),
    PostprocessorKind.COLOR: lambda _size: ColorStep(
        brightness=1.1, contrast=1.1, saturation=1.1, gamma=1.1, auto_white_balance=True
    ),
    PostprocessorKind.RESIZE: lambda size: ResizeStep(*_halved(size)),
    PostprocessorKind.CROP: lambda size: CropStep(0, 0, *_halved(size)),
    PostprocessorKind.WATERMARK: lambda _size: WatermarkStep(text="deviceops"),
    PostprocessorKind.ROTATE: lambda _size: RotateStep(degrees=10.0),
    PostprocessorKind.PAD: lambda size: PadStep(
        *2 * (size[0] // 4, size[1] // 4), PadMode.REFLECT
    ),
    PostprocessorKind.LUT: lambda _size: LutStep(),
    PostprocessorKind.DEBLUR: lambda _size: DeblurStep(),
    PostprocessorKind.REMOVE_BACKGROUND: lambda _size: RemoveBackgroundStep(),
}
"""What is measured of each built-in postprocessor, on a picture of that size: something that
changes every pixel that it could."""

# The eight corners of a cube of colours, each turned to its opposite.
INVERTING = b"LUT_3D_SIZE 2\n" + b"".join(
    b"%d %d %d\n" % (1 - red, 1 - green, 1 - blue)
    for blue in range(2)
    for green in range(2)
    for red in range(2)
)
"""The file of a table that changes every colour."""


def step_of(found: Postprocessor, size: Size) -> Step:
    """What is measured of a postprocessor, on a picture of that size.

    Raises:
        PostprocessorMissing: It is not ready, or nothing that could be measured by itself.
    """
    if found.ready and found.postprocessor_id == NON_LOCAL_MEANS:
        return DenoiseStep(method=DenoiseMethod.NON_LOCAL_MEANS)
    if found.ready and found.kind in MEASURED:
        return MEASURED[found.kind](size)
    if found.ready and found.kind is PostprocessorKind.UPSCALE:
        # Its own factor, so that nothing but the network is measured.
        factor = float(found.factors[0]) if found.factors else UpscaleStep().factor
        return UpscaleStep(postprocessor_id=found.postprocessor_id, factor=factor)
    if found.ready and found.kind is PostprocessorKind.FACE_RESTORE:
        return FaceRestoreStep(postprocessor_id=found.postprocessor_id)
    why = found.explanation or "it cannot be measured by itself."
    raise PostprocessorMissing("postprocessor_id", why, found.postprocessor_id)


def _halved(size: Size) -> Size:
    return max(1, size[0] // 2), max(1, size[1] // 2)
