"""From pixels to a finished file, with the settings that made it."""

from __future__ import annotations

from dataclasses import dataclass

from domains.inference.backends.images import Pixels
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.types import GenerationSettings
from domains.picture.backends.encoding import encode_image, texts_with_room
from domains.provenance.backends.mark import marked
from domains.provenance.types import MarkKey
from domains.session.jobs import EncodedImage
from domains.values import Degradation, DegradationKind, PartDataType


@dataclass(frozen=True)
class ImageOutput:
    """Makes files of a generation's pictures. `data_types` are what they were computed in,
    `mark_key` is the secret of the mark that they are to bear, None for none."""

    settings: GenerationSettings
    data_types: tuple[PartDataType, ...]
    mark_key: MarkKey | None = None

    def encode(
        self, index: int, seed: int, pixels: Pixels
    ) -> tuple[EncodedImage, list[Degradation]]:
        """The file of a picture, and what it has no room for.

        Args:
            index: Which picture it is.
            seed: Its seed.
            pixels: uint8 `[height, width, 3]`.

        Raises:
            InvalidProvenance: The mark would not be found again in such a picture.
        """
        output = self.settings.output
        if self.mark_key is not None:
            pixels = marked(pixels, self.mark_key, "output.provenance.watermark")
        shared, full = self._texts(seed)
        data = encode_image(pixels, output, shared_text=shared, full_text=full)
        height, width = pixels.shape[:2]
        encoded = EncodedImage(
            index, seed, width, height, output.format, data, self.mark_key is not None
        )
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
