"""The families, by architecture. A family is one module with the functions of `Family`."""

from __future__ import annotations

from typing import Protocol

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.families import sdxl
from domains.inference.backends.families.clip_text import EncodedText
from domains.inference.backends.loaded import LoadedModel
from domains.inference.types import GenerationSettings
from domains.model.backends.diffusers_folder import FolderPlan
from domains.model.types import Architecture


class Family(Protocol):
    """What a family's module offers."""

    def check(self, plan: FolderPlan) -> None:
        """Refuse a model whose parts are not the family's.

        Raises:
            FailedPrecondition: MODEL_INCOMPATIBLE.
        """
        ...

    def encode_text(self, model: LoadedModel, settings: GenerationSettings) -> EncodedText:
        """Turn the texts and the size of `settings` into what steers the UNet.

        Raises:
            InvalidArgument: `clip_skip` leaves no layer to take.
        """
        ...


_FAMILIES: dict[Architecture, Family] = {Architecture.SDXL: sdxl}


def family_of(architecture: Architecture) -> Family:
    """The family of an architecture.

    Raises:
        FailedPrecondition: MODEL_FORMAT_UNSUPPORTED when there is none.
    """
    family = _FAMILIES.get(architecture)
    if family is None:
        raise FailedPrecondition(
            f"Models of the {architecture.value} family cannot be run.",
            reason=Reason.MODEL_FORMAT_UNSUPPORTED,
        )
    return family
