"""nsfwjs' MobileNetV2, whose weights lie beside (`tools/nsfwjs_weights.py` took them there)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from domains.chain.backends.classifiers import Pixels
from domains.chain.backends.classifiers.mobile_net import MobileNet
from domains.safety.classifiers import NSFWJS

WEIGHTS = Path(__file__).with_name("nsfwjs.safetensors")
SHA256 = "aea10299d0e3ddbbd06cd1c0874d7387dc04158e99f8a1218f8c1af80ed38fce"
CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")
"""In the order of the network's probabilities, which sum up to 1."""
_EDGE = 224


class Nsfwjs:
    """Sorts drawn and photographed pictures.

    Args:
        weights: Their file.

    Raises:
        ValueError: It is damaged.
        Exception: It cannot be read.
    """

    classifier_id = NSFWJS.classifier_id

    def __init__(self, weights: Path = WEIGHTS) -> None:
        if hashlib.sha256(weights.read_bytes()).hexdigest() != SHA256:
            raise ValueError("the weights of nsfwjs are damaged")
        with safe_open(weights, "pt") as file:
            meaning = json.loads(file.metadata()["min_and_scale"])
            self._network = MobileNet(
                {
                    name: file.get_tensor(name).double() * scale + least
                    for name, (least, scale) in meaning.items()
                }
            )

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        """How surely it is of each class but `neutral`, which is what remains; see
        `Classifier`."""
        return {
            name: told
            for name, told in zip(CLASSES, self.classes(pixels), strict=True)
            if name in NSFWJS.categories
        }

    def classes(self, pixels: Pixels) -> list[float]:
        """The probabilities of all classes."""
        picture = torch.from_numpy(_resized(pixels)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return [float(each) for each in self._network(picture)[0]]


def _resized(pixels: Pixels) -> NDArray[np.float32]:
    """The picture as nsfwjs has the network look at it: from 0 to 1, bilinear between four
    pixels with corners on corners, whatever its shape. `[224, 224, 3]`."""
    rows, below, down = _between(pixels.shape[0])
    columns, right, across = _between(pixels.shape[1])
    down, across = down[:, None, None], across[:, None]

    def row(at: NDArray[np.intp]) -> NDArray[np.floating]:
        # Only what is needed becomes numbers of eight bytes.
        one, other = (pixels[np.ix_(at, each)] / 255.0 for each in (columns, right))
        return one + (other - one) * across

    upper, lower = row(rows), row(below)
    resized: NDArray[np.float32] = (upper + (lower - upper) * down).astype(np.float32)
    return resized


def _between(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating]]:
    """For each of 224 points along an edge of so many pixels, which two it lies between, and
    how far it is from the first."""
    points = np.arange(_EDGE) * ((count - 1) / (_EDGE - 1))
    first: NDArray[np.intp] = np.minimum(points.astype(np.intp), count - 1)
    return first, np.minimum(first + 1, count - 1), points - first
