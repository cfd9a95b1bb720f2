"""A policy applied to a picture: it stays as it is, is blurred, or is withheld."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.classifiers import Classifiers, Pixels
from domains.safety import SafetyAction, SafetyPolicy, SafetySubject, SafetyVerdict
from domains.safety.verdict import verdict

_CELLS = 8
"""Along the longer edge of a blurred picture: all that is left of it are so many numbers."""


@dataclass(frozen=True)
class Judged:
    """A picture after a policy; None where it is withheld."""

    verdict: SafetyVerdict
    canvas: Canvas | None


class Withheld(Exception):
    """A picture is withheld: nothing more is done with it.

    Args:
        verdict: What says so.
    """

    def __init__(self, verdict: SafetyVerdict) -> None:
        super().__init__()
        self.verdict = verdict


def judge(
    pixels: Pixels,
    policy: SafetyPolicy,
    classifiers: Classifiers,
    subject: SafetySubject = SafetySubject.RESULT,
) -> SafetyVerdict:
    """What the policy makes of the picture, by its classifiers."""
    found = classifiers.findings(pixels, policy.classifiers)
    return verdict(found.scores, policy, subject, failed=bool(found.failed))


def apply(canvas: Canvas, policy: SafetyPolicy, classifiers: Classifiers) -> Judged:
    """Do with a finished picture what the policy says. One that stays is the same one; of one
    that is blurred the alpha is too, since an outline tells enough.

    Args:
        canvas: The picture; what lies under its alpha is judged as well.
        policy: Which rules hold.
        classifiers: Score the picture.
    """
    found = judge(canvas.pixels, policy, classifiers)
    if found.action is SafetyAction.BLOCK:
        return Judged(found, None)
    if found.action is SafetyAction.BLUR:
        alpha = None if canvas.alpha is None else blurred(canvas.alpha)
        return Judged(found, Canvas(blurred(canvas.pixels), alpha))
    return Judged(found, canvas)


def blurred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture beyond recognition, in its size.

    Its longer edge becomes 8 averages, and those are drawn out again: unlike a blur by a
    kernel, which can be undone in part, what lay between them is gone.

    Args:
        pixels: uint8 `[height, width, 3]` or `[height, width]`.
    """
    image = Image.fromarray(pixels)
    scale = _CELLS / max(image.size)
    few = tuple(max(round(edge * scale), 1) for edge in image.size)
    small = image.resize((few[0], few[1]), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))
