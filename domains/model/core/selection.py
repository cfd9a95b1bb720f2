"""Filtering, ordering and searching lists of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from domains.model.types import Model, ModelFormat, ModelType
from domains.model.views import ModelFilter, ModelMatch, ModelOrder

_COMPANIONS = frozenset(
    {
        ModelType.VAE,
        ModelType.LORA,
        ModelType.CONTROL_NET,
        ModelType.REFINER,
        ModelType.IMAGE_PROMPT_ADAPTER,
    }
)
# How much a word counts by where it is found, and by how well it fits there.
_NAME, _TAG, _DESCRIPTION = 1.0, 0.7, 0.4
_WHOLE, _START, _PART = 1.0, 0.8, 0.6
_HASH = re.compile(r"[0-9a-f]{8,64}")


def matches(model: Model, wanted: ModelFilter) -> bool:
    """Whether a model passes every part of a filter."""
    return (
        wanted.type in (None, model.type)
        and wanted.architecture in (None, model.architecture)
        and wanted.format in (None, model.format)
        and {tag.casefold() for tag in wanted.tags} <= {tag.casefold() for tag in model.tags}
        and (model.usable or not wanted.usable_only)
    )


Key = tuple[int | float | str, ...]


def order_key(order: ModelOrder, last_uses: Mapping[str, datetime]) -> Callable[[Model], Key]:
    """What lists are sorted by; equals by name.

    Uses are known since the server started: with LAST_USE, models not used since then
    come last, by name.
    """
    match order:
        case ModelOrder.NAME:
            return _by_name
        case ModelOrder.MODIFY_TIME:
            return lambda model: (-model.modified_at.timestamp(), *_by_name(model))
        case ModelOrder.SIZE:
            return lambda model: (-model.size_bytes, *_by_name(model))
        case ModelOrder.LAST_USE:

            def by_use(model: Model) -> Key:
                used = last_uses.get(model.model_id)
                return (-used.timestamp() if used else 0.0, *_by_name(model))

            return by_use


def first_usable_checkpoint(models: Iterable[Model]) -> Model | None:
    """The model that requests use which name none, where nobody chose one: a folder before a
    single file, as what a shape does not tell is known of a folder; then by name. None that
    fills in masks or has no VAE: most requests have none."""
    wanted = ModelFilter(type=ModelType.CHECKPOINT, usable_only=True)

    def key(model: Model) -> Key:
        return (model.format is not ModelFormat.DIFFUSERS_FOLDER, *_by_name(model))

    found = (m for m in models if matches(m, wanted))
    drawing = (m for m in found if not m.inpainting and not m.lacks_vae)
    return min(drawing, key=key, default=None)


def best_first(match: ModelMatch) -> Key:
    """What matches of a search are sorted by; equals by name."""
    return (-match.score, *_by_name(match.model))


def search(models: Iterable[Model], query: str) -> list[ModelMatch]:
    """Models in which every word of `query` is found, in no order."""
    words = query.casefold().split()
    found = (ModelMatch(model, _score(model, words)) for model in models)
    return [match for match in found if match.score > 0]


def goes_with(model: Model, checkpoint: Model) -> bool:
    """Whether a model can be used together with a checkpoint, by type and architecture."""
    return (
        model.type in _COMPANIONS
        and model.usable
        and model.architecture is not None
        and model.architecture is checkpoint.architecture
    )


def _by_name(model: Model) -> tuple[str, str]:
    return model.name.casefold(), model.model_id


def _score(model: Model, words: list[str]) -> float:
    """The mean over the words of the best place each was found at; 0 when one was not."""
    places = [(_NAME, name) for name in (model.name, model.model_id, *model.aliases)]
    kinds = (kind.value for kind in (model.type, model.architecture) if kind is not None)
    places += [(_TAG, tag) for tag in (*model.tags, *model.trigger_words, *kinds, model.kind)]
    places.append((_DESCRIPTION, model.description))
    shown = [(weight, text.casefold()) for weight, text in places]
    scores = [
        _NAME * _WHOLE
        if _is_hash_of(model, word)
        else max(weight * _fit(word, text) for weight, text in shown)
        for word in words
    ]
    return sum(scores) / len(scores) if all(scores) else 0.0


def _is_hash_of(model: Model, word: str) -> bool:
    """Whether a word is the beginning of the model's hash, long enough to mean it. The first
    ten digits are what AUTOMATIC1111's web UI calls a model's hash."""
    return _HASH.fullmatch(word) is not None and model.sha256.startswith(word)


def _fit(word: str, text: str) -> float:
    if word not in text:
        return 0.0
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    if word == text or word in parts:
        return _WHOLE
    return _START if any(part.startswith(word) for part in parts) else _PART
