"""Pictures whose faces are redrawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from domains.chain.backends.canvas import Pixels
from domains.chain.backends.restoring.aligning import Alignment
from domains.chain.backends.restoring.loading import ADVICE
from domains.chain.backends.restoring.restorer import Restorer
from domains.device.backends import faults
from domains.errors import FailedPrecondition, Reason
from domains.picture.backends.carried.faces import find_faces

_ALIGNED = 4
"""Points of a face that it is aligned by: eyes, nose and mouth."""


def restore(
    restorer: Restorer,
    pixels: Pixels,
    strength: float,
    least_confidence: float,
    between: Callable[[int, int], None] = lambda _done, _faces: None,
    *,
    shown: Callable[[Pixels, int], None] = lambda _pixels, _done: None,
) -> Pixels:
    """Redraw the faces of a picture, the surest first; without one it stays the same.

    Args:
        restorer: On its device.
        pixels: uint8 `[height, width, 3]`, of any size.
        strength: How much of the restored face, 0 to 1.
        least_confidence: How surely something has to be a face, 0 to 1.
        between: Called after each face with how many are done and how many there are; may
            raise to stop.
        shown: Called after each face, before `between`, with the picture as it is then and how
            many are done.

    Returns:
        uint8 `[height, width, 3]`.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT.
        ResourceExhausted: DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY.
    """
    faces = find_faces(pixels, least_confidence)
    for done, face in enumerate(faces, start=1):
        alignment = Alignment.of_points(face.points[:_ALIGNED])
        if alignment is not None:
            restored = _redrawn(restorer, alignment.cut_out(pixels))
            pixels = alignment.put_back(pixels, restored, strength)
        shown(pixels, done)
        between(done, len(faces))
    return pixels


def _redrawn(restorer: Restorer, face: Pixels) -> Pixels:
    """From uint8 `[512, 512, 3]` to the same."""
    # A copy: torch wants memory that it may write to.
    given = torch.from_numpy(np.array(face)).to(restorer.device)
    given = given.permute(2, 0, 1)[None].to(torch.float32) / 255
    try:
        with torch.no_grad():
            restored: torch.Tensor = restorer.network(given)[0]
        finite = bool(torch.isfinite(restored).all())
    except Exception as error:
        shortage = faults.domain_error(error, restorer.device, advice=ADVICE)
        if shortage is None:
            raise
        faults.drop_frames(error)
        raise shortage from error
    if not finite:
        raise FailedPrecondition(
            "The face restorer produced numbers that are not finite; use another one.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "restoring faces"},
        )
    levels = (restored * 255).round_().clamp_(0, 255).to(torch.uint8)
    pixels: Pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels
