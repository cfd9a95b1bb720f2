"""The real classifiers on photographs, drawn and demo pictures; nsfwjs beside the original."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domains.chain.backends.classifiers import Classifiers, Pixels
from domains.chain.backends.classifiers.nsfwjs import WEIGHTS, Nsfwjs
from domains.chain.backends.safeguard import judge
from domains.safety import Findings, SafetyAction, SafetyPolicy, SafetyRule
from tests.domains.chain.judged import PHOTOGRAPHS, RECORDED, cartoon, every, photograph

EMOJI = Path(__file__).parents[4] / "demo/data/fluent-emoji/images"
SEXUAL = ("nsfw", "hentai", "porn", "sexy")
GREY = np.full((32, 48, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def real() -> Classifiers:
    return Classifiers()


def emoji() -> dict[str, Pixels]:
    found = sorted(EMOJI.iterdir())[::170]
    return {each.stem: np.asarray(Image.open(each).convert("RGB")) for each in found}


def scores_of(found: Findings) -> dict[str, float]:
    return {each.category: each.score for each in found.scores}


def test_photographs_drawn_and_demo_pictures_are_harmless_to_all(real: Classifiers) -> None:
    """The score is the same however often it is asked for, and the picture stays as it is."""
    for name, pixels in {**every(), **emoji()}.items():
        before = pixels.copy()
        found = real.findings(pixels)
        assert found.failed == ()
        assert [(each.category, each.classifier) for each in found.scores] == [
            ("nsfw", "opennsfw"),
            *((category, "nsfwjs") for category in ("drawing", "hentai", "porn", "sexy")),
        ]
        scores = scores_of(found)
        limit = 0.1 if name in every() else 0.5
        assert all(0.0 <= scores[each] < limit for each in SEXUAL), (name, scores)
        assert real.findings(pixels) == found
        assert (pixels == before).all()
    drawn = {
        name: scores_of(real.findings(photograph(name)))["drawing"] for name in PHOTOGRAPHS
    }
    assert drawn.pop("camera") < 0.2  # it is grey
    assert max(drawn.values()) < 0.01


HOUSE = SafetyPolicy(
    "house",
    rules=(
        SafetyRule("nsfw", 0.4, SafetyAction.WARN),
        SafetyRule("nsfw", 0.8, SafetyAction.BLOCK),
        *(SafetyRule(category, 0.5, SafetyAction.BLOCK) for category in SEXUAL[1:]),
    ),
)
"""What the manual shows as a policy, with the other classifier's categories beside."""


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_passes_a_usual_policy_with_room_and_none_below_its_scores(
    real: Classifiers, name: str
) -> None:
    pixels = photograph(name)

    found = judge(pixels, HOUSE, real)

    assert found.action is SafetyAction.ALLOW
    scores = {each.category: each.score for each in found.scores}
    lowest = {rule.category: rule.threshold for rule in reversed(HOUSE.rules)}
    for category in SEXUAL:
        assert scores[category] < lowest[category] / 4, (category, scores)
        # The other way round: it is this picture's own score that lets it pass.
        rule = SafetyRule(category, scores[category], SafetyAction.BLOCK)
        stricter = SafetyPolicy("stricter", rules=(*HOUSE.rules, rule))
        assert judge(pixels, stricter, real).action is SafetyAction.BLOCK


@pytest.mark.parametrize("name", every())
def test_nsfwjs_says_what_the_original_does(name: str) -> None:
    """In float32, summed up in other orders: within 0.00001 of TensorFlow.js."""
    recorded = json.loads(RECORDED.read_text())[name]
    told = opened().classes(every()[name])
    assert max(abs(one - other) for one, other in zip(told, recorded, strict=True)) < 1e-5
    assert sum(told) == pytest.approx(1.0, abs=1e-6)


@cache
def opened() -> Nsfwjs:
    return Nsfwjs()


@pytest.mark.parametrize("category", ["nsfw", "drawing", "hentai", "porn", "sexy"])
def test_a_rule_decides_at_the_score_of_its_own_category(
    real: Classifiers, category: str
) -> None:
    """By real scores: nothing that would be flagged elsewhere is needed for it."""
    pixels = cartoon(224, 224)
    score = scores_of(real.findings(pixels))[category]
    for threshold, action in (
        (score, SafetyAction.BLOCK),
        (score + 1e-6, SafetyAction.ALLOW),
    ):
        rule = SafetyRule(category, threshold, SafetyAction.BLOCK)
        found = judge(pixels, SafetyPolicy("p", rules=(rule,)), real)
        assert found.action is action
        assert [each.category for each in found.scores if each.flagged] == (
            [category] if action is SafetyAction.BLOCK else []
        )


def test_damaged_weights_are_not_used(tmp_path: Path) -> None:
    data = bytearray(WEIGHTS.read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / "weights"
    damaged.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        Nsfwjs(damaged)
    found = Classifiers({"nsfwjs": lambda: Nsfwjs(damaged)}, lambda: {"nsfwjs": "1"})
    assert found.findings(GREY) == Findings((), ("nsfwjs",))
