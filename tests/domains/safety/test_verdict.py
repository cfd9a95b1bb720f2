"""What a policy makes of scores: every combination of what counts."""

from __future__ import annotations

from itertools import product

import pytest

from domains.safety import (
    NO_POLICY,
    CategoryScore,
    ClassifierFailure,
    SafetyAction,
    SafetyPolicy,
    SafetyRule,
    SafetySubject,
)
from domains.safety.verdict import PROMPT_WORDS, harshest, prompt_verdict, verdict

SUBJECTS = (None, *SafetySubject)
BELOW, AT, ABOVE = 0.49, 0.5, 0.51


def scored(score: float, category: str = "nsfw") -> CategoryScore:
    return CategoryScore(category, score, "some-classifier")


@pytest.mark.parametrize("failure", ClassifierFailure)
@pytest.mark.parametrize("failed", [False, True])
def test_one_rule_in_every_case(failed: bool, failure: ClassifierFailure) -> None:
    cases = product(SafetyAction, SUBJECTS, SUBJECTS, (BELOW, AT, ABOVE), ("nsfw", "gore"))
    for action, about, subject, score, category in cases:
        rule = SafetyRule("nsfw", 0.5, action, about)
        policy = SafetyPolicy("p", 3, rules=(rule,), on_classifier_failure=failure)
        found = verdict([scored(score, category)], policy, subject, failed=failed)

        concerned = category == "nsfw" and (about is None or subject in (None, about))
        flagged = concerned and score >= 0.5
        expected = action if flagged else SafetyAction.ALLOW
        if failed and failure is ClassifierFailure.BLOCK:
            expected = SafetyAction.BLOCK
        (told,) = found.scores
        assert (told.category, told.score) == (category, score)
        assert (told.flagged, told.threshold) == (flagged, 0.5 if concerned else 0.0)
        assert found.action is expected
        assert found.classifier_failed is failed
        assert found.flagged is (flagged or failed)
        assert bool(found.advice) is (flagged or failed)
        assert (found.policy_id, found.policy_version, found.subject) == ("p", 3, subject)


def test_the_harshest_of_all_that_is_reached_is_done() -> None:
    for first, second in product(SafetyAction, repeat=2):
        rules = (SafetyRule("nsfw", 0.3, first), SafetyRule("nsfw", 0.6, second))
        policy = SafetyPolicy("p", rules=rules)
        for score, reached in ((0.1, ()), (0.4, (first,)), (0.7, (first, second))):
            found = verdict([scored(score)], policy, SafetySubject.RESULT)
            worst = max((each.severity for each in reached), default=0)
            assert found.action.severity == worst
            assert found.scores[0].flagged is bool(reached)


def test_two_rules_in_every_case() -> None:
    """Whom they are about, what they do, who is judged, what is reached, whether all scored."""
    each_rule = list(product(SafetyAction, SUBJECTS))
    for (one, of_one), (other, of_other) in product(each_rule, repeat=2):
        rules = (
            SafetyRule("nsfw", 0.3, one, of_one),
            SafetyRule("nsfw", 0.6, other, of_other),
        )
        for failure, failed in ((None, False), *((each, True) for each in ClassifierFailure)):
            policy = SafetyPolicy(
                "p", rules=rules, on_classifier_failure=failure or ClassifierFailure.BLOCK
            )
            for subject, score in product(SUBJECTS, (0.1, 0.4, 0.7)):
                found = verdict([scored(score)], policy, subject, failed=failed)
                reached = [
                    rule.action
                    for rule in rules
                    if score >= rule.threshold
                    and (rule.subject is None or subject in (None, rule.subject))
                ]
                done = list(reached)
                if failure is ClassifierFailure.BLOCK:
                    done.append(SafetyAction.BLOCK)
                worst = max((each.severity for each in done), default=0)
                assert found.action.severity == worst
                assert found.scores[0].flagged is bool(reached)
                assert found.flagged is (bool(reached) or failed)


def test_the_harshest_verdict_tells_of_a_picture() -> None:
    told = [
        verdict([], SafetyPolicy(name, rules=()), SafetySubject.RESULT, failed=failed)
        for name, failed in (("a", False), ("b", True), ("c", False), ("d", True))
    ]
    a, b, c, d = told  # b and d block
    assert harshest(()) is harshest((None,)) is None
    assert harshest((a, None, c)) is c
    assert harshest((a, b, c)) is b
    assert harshest((b, None, d, c)) is d


def test_the_threshold_that_is_told_is_that_of_what_is_done_or_of_what_would_be_next() -> None:
    rules = (
        SafetyRule("nsfw", 0.8, SafetyAction.BLOCK),
        SafetyRule("nsfw", 0.4, SafetyAction.WARN),
    )
    policy = SafetyPolicy("p", rules=rules)
    told = [
        verdict([scored(each)], policy, SafetySubject.RESULT).scores[0].threshold
        for each in (0.1, 0.5, 0.9)
    ]
    assert told == [0.4, 0.4, 0.8]


def test_categories_do_not_touch_each_other() -> None:
    policy = SafetyPolicy("p", rules=(SafetyRule("porn", 0.5, SafetyAction.BLUR),))
    found = verdict([scored(0.9), scored(0.6, "porn")], policy, SafetySubject.RESULT)
    assert found.action is SafetyAction.BLUR
    assert [each.flagged for each in found.scores] == [False, True]


def test_what_others_found_counts_where_a_failure_is_let_pass() -> None:
    policy = SafetyPolicy(
        "p",
        rules=(SafetyRule("nsfw", 0.5, SafetyAction.BLUR),),
        on_classifier_failure=ClassifierFailure.ALLOW,
    )
    found = verdict([scored(0.9)], policy, SafetySubject.RESULT, failed=True)
    assert (found.action, found.classifier_failed) == (SafetyAction.BLUR, True)


@pytest.mark.parametrize("failed", [False, True])
def test_without_a_policy_nothing_is_done(failed: bool) -> None:
    found = verdict([scored(1.0)], NO_POLICY, SafetySubject.RESULT, failed=failed)
    assert found.action is SafetyAction.ALLOW
    assert (found.policy_id, found.policy_version) == ("", 0)
    assert not found.scores[0].flagged
    assert found.classifier_failed is failed


def test_a_prompts_words_are_a_category() -> None:
    rule = SafetyRule("words", 0.5, SafetyAction.BLOCK, SafetySubject.PROMPT)
    policy = SafetyPolicy("p", 1, rules=(rule,), prompt_words=("apple",))
    found = prompt_verdict(policy, "a red ＡＰＰＬＥ")
    (told,) = found.scores
    assert (told.category, told.score, told.classifier) == ("words", 1.0, PROMPT_WORDS)
    assert (found.action, found.subject) == (SafetyAction.BLOCK, SafetySubject.PROMPT)
    assert prompt_verdict(policy, "a red pear").action is SafetyAction.ALLOW
    assert prompt_verdict(policy, "pear", "apple").action is SafetyAction.BLOCK
