"""From pixels to a finished file, with the settings that made it."""

from __future__ import annotations

from dataclasses import dataclass

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.classifiers import of_this_process
from domains.chain.backends.finishing import Finished
from domains.chain.backends.safeguard import apply
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.types import GenerationSettings
from domains.picture.backends.encoding import encode_image, texts_with_room
from domains.provenance.backends.mark import marked
from domains.provenance.types import MarkKey
from domains.safety import SafetyPolicy, SafetyVerdict
from domains.safety.verdict import harshest
from domains.session.jobs import EncodedImage
from domains.values import Degradation, DegradationKind, PartDataType


@dataclass(frozen=True)
class ImageOutput:
    """Makes files of a generation's pictures. `size` is their width and height, `data_types`
    are what they were computed in, `mark_key` is the secret of the mark that they are to bear,
    None for none; `policy` judges each first, if there is one."""

    settings: GenerationSettings
    size: tuple[int, int]
    data_types: tuple[PartDataType, ...]
    mark_key: MarkKey | None = None
    policy: SafetyPolicy | None = None

    def encode(
        self, index: int, seed: int, picture: Finished
    ) -> tuple[EncodedImage, list[Degradation]]:
        """The file of a picture, and what it has no room for. It is blurred where the policy
        says so, and there is no file where it is withheld, by that or by a step before.

        Args:
            index: Which picture it is.
            seed: Its seed.
            picture: Without alpha, with what its steps came to.

        Raises:
            InvalidProvenance: The mark would not be found again in such a picture.
        """
        canvas, verdict = self._judged(picture)
        output, (width, height) = self.settings.output, self.size
        if canvas is None:
            withheld = EncodedImage(
                index, seed, width, height, output.format, b"", False, verdict
            )
            return withheld, []
        pixels = canvas.pixels
        if self.mark_key is not None:
            pixels = marked(pixels, self.mark_key, "output.provenance.watermark")
        shared, full = self._texts(seed)
        data = encode_image(pixels, output, shared_text=shared, full_text=full)
        bears = self.mark_key is not None
        encoded = EncodedImage(index, seed, width, height, output.format, data, bears, verdict)
        return encoded, self._omitted(shared, full)

    def _judged(self, picture: Finished) -> tuple[Canvas | None, SafetyVerdict | None]:
        """The picture as it may be given away, and the harshest verdict on it."""
        if picture.canvas is None or self.policy is None:
            return picture.canvas, picture.verdict
        judged = apply(picture.canvas, self.policy, of_this_process())
        return judged.canvas, harshest((picture.verdict, judged.verdict))

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
