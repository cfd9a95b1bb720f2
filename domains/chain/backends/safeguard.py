"""A policy applied to a picture's pixels: they stay, are blurred, or are withheld."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domains.chain.backends.classifiers import Classifiers, Pixels
from domains.safety import SafetyAction, SafetyPolicy, SafetySubject, SafetyVerdict
from domains.safety.verdict import verdict

_CELLS = 8
"""Along the longer edge of a blurred picture: all that is left of it are so many numbers."""


@dataclass(frozen=True)
class Judged:
    """A picture after a policy: `pixels` uint8 `[height, width, 3]` and `alpha` uint8
    `[height, width]` or None; both None where it is withheld."""

    verdict: SafetyVerdict
    pixels: Pixels | None
    alpha: Pixels | None = None


def judge(
    pixels: Pixels,
    policy: SafetyPolicy,
    classifiers: Classifiers,
    subject: SafetySubject = SafetySubject.RESULT,
) -> SafetyVerdict:
    """What the policy makes of the picture, by its classifiers."""
    found = classifiers.findings(pixels, policy.classifiers)
    return verdict(found.scores, policy, subject, failed=bool(found.failed))


def apply(
    pixels: Pixels,
    policy: SafetyPolicy,
    classifiers: Classifiers,
    *,
    alpha: Pixels | None = None,
) -> Judged:
    """Do with a finished picture what the policy says. Pixels that stay are the same ones.

    Args:
        pixels: uint8 `[height, width, 3]`.
        policy: Which rules hold.
        classifiers: Score the picture.
        alpha: uint8 `[height, width]`; it is blurred too, since an outline tells enough.
    """
    found = judge(pixels, policy, classifiers)
    if found.action is SafetyAction.BLOCK:
        return Judged(found, None)
    if found.action is SafetyAction.BLUR:
        return Judged(found, blurred(pixels), None if alpha is None else blurred(alpha))
    return Judged(found, pixels, alpha)


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
