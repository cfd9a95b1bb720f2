"""From pixels to a finished file, with the settings that made it."""

from __future__ import annotations

from dataclasses import dataclass

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.classifiers import of_this_process
from domains.chain.backends.safeguard import apply
from domains.inference.backends.images import Pixels
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.types import GenerationSettings
from domains.picture.backends.encoding import encode_image, texts_with_room
from domains.provenance.backends.mark import marked
from domains.provenance.types import MarkKey
from domains.safety import SafetyPolicy
from domains.session.jobs import EncodedImage
from domains.values import Degradation, DegradationKind, PartDataType


@dataclass(frozen=True)
class ImageOutput:
    """Makes files of a generation's pictures. `data_types` are what they were computed in,
    `mark_key` is the secret of the mark that they are to bear, None for none;
    `policy` judges each first, if there is one."""

    settings: GenerationSettings
    data_types: tuple[PartDataType, ...]
    mark_key: MarkKey | None = None
    policy: SafetyPolicy | None = None

    def encode(
        self, index: int, seed: int, pixels: Pixels
    ) -> tuple[EncodedImage, list[Degradation]]:
        """The file of a picture, and what it has no room for. It is blurred where the policy
        says so, and there is no file where it is withheld.

        Args:
            index: Which picture it is.
            seed: Its seed.
            pixels: uint8 `[height, width, 3]`.

        Raises:
            InvalidProvenance: The mark would not be found again in such a picture.
        """
        output = self.settings.output
        height, width = pixels.shape[:2]
        verdict = None
        if self.policy is not None:
            judged = apply(Canvas(pixels), self.policy, of_this_process())
            verdict = judged.verdict
            if judged.canvas is None:
                withheld = EncodedImage(
                    index, seed, width, height, output.format, b"", False, verdict
                )
                return withheld, []
            pixels = judged.canvas.pixels
        if self.mark_key is not None:
            pixels = marked(pixels, self.mark_key, "output.provenance.watermark")
        shared, full = self._texts(seed)
        data = encode_image(pixels, output, shared_text=shared, full_text=full)
        bears = self.mark_key is not None
        encoded = EncodedImage(index, seed, width, height, output.format, data, bears, verdict)
        return encoded, self._omitted(shared, full)

    def _texts(self, seed: int) -> tuple[str, str]:
        if self.settings.output.omit_parameters:
            return "", ""
        full = full_text(self.settings, seed, data_types=self.data_types)
        return shared_text(self.settings, seed), full

    def _omitted(self, shared: str, full: str) -> list[Degradation]:
        format = self.settings.output.format
        kept = texts_with_room(format, shared, full)
        if kept == (shared, full):
            return []
        what = "only the shorter form of the settings" if kept[0] else "no settings"
        return [
            Degradation(
                DegradationKind.PARAMETERS_OMITTED,
                f"A {format.value.upper()} file has no room for such long texts and holds "
                f"{what}.",
            )
        ]
