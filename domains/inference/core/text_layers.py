"""How many layers of its text encoders a model can leave out."""

from __future__ import annotations

from collections.abc import Iterator

from domains.errors import FieldViolation, Reason
from domains.inference.types import GenerationSettings
from domains.model.types import Model

_FIRST, _SECOND = "text_encoder", "text_encoder_2"


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
        # The embeddings before the first layer count as an output too. Models of two encoders
        # are trained on the last layer but one of each.
        most = layers - 1 if owner.reads_second_prompt else layers
        if layers and settings.clip_skip > most:
            yield FieldViolation(
                f"{path}.clip_skip",
                Reason.FIELD_OUT_OF_RANGE,
                f"Must be at most {most}: the {name} of {owner.model_id} has {layers} layers.",
            )
            return
