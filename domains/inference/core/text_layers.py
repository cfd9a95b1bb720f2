"""How many layers of its text encoders a model can leave out."""

from __future__ import annotations

from collections.abc import Iterator

from domains.errors import FieldViolation, Reason
from domains.inference.types import GenerationSettings
from domains.model.types import Architecture, Model

_FIRST, _SECOND = "text_encoder", "text_encoder_2"
# Which layer, from the end, models of a kind were trained on; the last one of all others.
_TRAINED_ON: dict[Architecture | None, int] = {Architecture.SDXL: 2}


def check_clip_skip(
    settings: GenerationSettings, model: Model, refiner: Model | None, path: str
) -> Iterator[FieldViolation]:
    """Refuse to leave out more layers than there are.

    A refiner reads with the second text encoder alone: its own, or the model's.
    """
    encoders = [(model, name) for name in (_FIRST, _SECOND)]
    encoders += [] if refiner is None else [(refiner, _SECOND)]
    for owner, name in encoders:
        layers = next((part.layers for part in owner.components if part.name == name), 0)
        # The embeddings before the first layer count as an output too.
        most = layers + 1 - _TRAINED_ON.get(owner.architecture, 1)
        if layers and settings.clip_skip > most:
            yield FieldViolation(
                f"{path}.clip_skip",
                Reason.FIELD_OUT_OF_RANGE,
                f"Must be at most {most}: the {name} of {owner.model_id} has {layers} layers.",
            )
            return
