"""Filtering, ordering and searching lists of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from domains.model.types import Model, ModelFilter, ModelMatch, ModelOrder

_NEVER = datetime.min.replace(tzinfo=UTC)
# How much a word counts by where it is found, and by how well it fits there.
_NAME, _TAG, _DESCRIPTION = 1.0, 0.7, 0.4
_WHOLE, _START, _PART = 1.0, 0.8, 0.6


def matches(model: Model, wanted: ModelFilter) -> bool:
    """Whether a model passes every part of a filter."""
    return (
        wanted.type in (None, model.type)
        and wanted.architecture in (None, model.architecture)
        and wanted.format in (None, model.format)
        and {tag.casefold() for tag in wanted.tags} <= {tag.casefold() for tag in model.tags}
        and (model.usable or not wanted.usable_only)
    )


def ordered(
    models: Iterable[Model], order: ModelOrder, last_uses: Mapping[str, datetime]
) -> list[Model]:
    """Models in order; equals by name.

    Uses are known since the server started: with LAST_USE, models not used since then
    come last, by name.
    """
    listed = sorted(models, key=_by_name)
    match order:
        case ModelOrder.NAME:
            pass
        case ModelOrder.MODIFY_TIME:
            listed.sort(key=lambda model: model.modified_at, reverse=True)
        case ModelOrder.SIZE:
            listed.sort(key=lambda model: model.size_bytes, reverse=True)
        case ModelOrder.LAST_USE:
            listed.sort(key=lambda m: last_uses.get(m.model_id, _NEVER), reverse=True)
    return listed


def search(models: Iterable[Model], query: str) -> list[ModelMatch]:
    """Models in which every word of `query` is found, best first, equals by name."""
    words = query.casefold().split()
    found = (ModelMatch(model, _score(model, words)) for model in sorted(models, key=_by_name))
    return sorted((m for m in found if m.score > 0), key=lambda match: -match.score)


def _by_name(model: Model) -> tuple[str, str]:
    return model.name.casefold(), model.model_id


def _score(model: Model, words: list[str]) -> float:
    """The mean over the words of the best place each was found at; 0 when one was not."""
    places = [(_NAME, model.name.casefold()), (_NAME, model.model_id.casefold())]
    places += [(_TAG, tag.casefold()) for tag in (*model.tags, *model.trigger_words)]
    places.append((_DESCRIPTION, model.description.casefold()))
    scores = [max(weight * _fit(word, text) for weight, text in places) for word in words]
    return sum(scores) / len(scores) if all(scores) else 0.0


def _fit(word: str, text: str) -> float:
    if word not in text:
        return 0.0
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    if word == text or word in parts:
        return _WHOLE
    return _START if any(part.startswith(word) for part in parts) else _PART
