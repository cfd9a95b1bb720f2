"""The families as the engine runs them: a module of the architecture's name for each."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from domains.inference.backends.families.clip_text import EncodedText
from domains.inference.backends.inversions import NO_INVERSIONS, Inversions
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.types import GenerationSettings
from domains.model.types import Architecture


class Family(Protocol):
    """What a family's module offers; all but this is in its description without torch."""

    def encode_text(
        self,
        model: LoadedModel,
        settings: GenerationSettings,
        inversions: Inversions = NO_INVERSIONS,
    ) -> EncodedText:
        """Turn the texts and the size of `settings` into what steers the UNet.

        Raises:
            InvalidArgument: `clip_skip` leaves no layer to take.
        """
        ...


def family_of(architecture: Architecture) -> Family:
    """The family of an architecture whose models can be drawn with."""
    return cast("Family", import_module(f"{__package__}.{architecture.value}"))
