"""Files that are added to a checkpoint and are of no type that is listed here."""

from __future__ import annotations

from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.marks import Mark, first_fitting
from domains.model.backends.recognition.tensors import Tensors

_MOTION = Recognised(None, kind="motion module", family="AnimateDiff")
_MODULES = (
    Mark(
        _MOTION,
        every=("down_blocks.0.motion_modules.0.", "up_blocks.1.motion_modules.0."),
        none=("conv_in.",),
    ),
    Mark(
        _MOTION,
        every=("module.down_blocks.0.motion_modules.0.temporal_transformer.",),
    ),
)


def module(tensors: Tensors) -> Recognised | None:
    """What such a file is; None where it is none."""
    return first_fitting(_MODULES, tensors)
