"""What a policy makes of scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from domains.safety import (
    WORDS,
    CategoryScore,
    ClassifierFailure,
    SafetyAction,
    SafetyPolicy,
    SafetyRule,
    SafetyScore,
    SafetySubject,
    SafetyVerdict,
)
from domains.safety.words import holds_any

PROMPT_WORDS = "prompt-words"
"""Who scores the category `WORDS`."""
_ADVICE = {
    SafetyAction.ALLOW: "It is flagged for information only; nothing need be done.",
    SafetyAction.WARN: "Look at it before it is used or shown.",
    SafetyAction.BLUR: "The picture is blurred; change the prompt or the picture, or ask the"
    " operator.",
    SafetyAction.BLOCK: "It is withheld; change the prompt or the picture, or ask the"
    " operator.",
}
_FAILED = {
    ClassifierFailure.BLOCK: "A classifier failed, and the policy withholds what it did not"
    " score; try again, or ask the operator to look at the server's log.",
    ClassifierFailure.ALLOW: "A classifier failed and the policy lets that pass; look at it"
    " before it is used, and ask the operator to look at the server's log.",
}


def verdict(
    scores: Sequence[CategoryScore],
    policy: SafetyPolicy,
    subject: SafetySubject | None,
    *,
    failed: bool = False,
) -> SafetyVerdict:
    """What `policy` makes of the scores of one picture or prompt.

    Every rule of a score's category whose threshold it reaches counts, and the harshest action
    is what is done. Where a classifier failed, the policy's rule for that counts as well; what
    the others found stands all the same.

    Args:
        scores: By whatever classifiers there are; at most 32.
        policy: Which rules hold.
        subject: What was scored; None makes rules of every subject count.
        failed: Whether a classifier did not score.
    """
    judged = [_judged(each, policy, subject) for each in scores]
    action = _harshest(rule.action for _, rule in judged if rule is not None)
    if failed and policy.on_classifier_failure is ClassifierFailure.BLOCK:
        action = SafetyAction.BLOCK
    flagged = any(rule is not None for _, rule in judged)
    advice = _ADVICE[action] if flagged else ""
    return SafetyVerdict(
        tuple(score for score, _ in judged),
        action,
        policy.policy_id,
        policy.version,
        subject,
        failed,
        _FAILED[policy.on_classifier_failure] if failed else advice,
    )


def prompt_verdict(policy: SafetyPolicy, *readings: str) -> SafetyVerdict:
    """What `policy` makes of a prompt, by its words, in whichever way it may be read."""
    score = float(any(holds_any(each, policy.prompt_words) for each in readings))
    return verdict([CategoryScore(WORDS, score, PROMPT_WORDS)], policy, SafetySubject.PROMPT)


def harshest(verdicts: Iterable[SafetyVerdict | None]) -> SafetyVerdict | None:
    """The one that stands for all that a picture came to, in their order: the harshest, of
    equally harsh ones the last; None where nothing judged it."""
    found: SafetyVerdict | None = None
    for each in verdicts:
        if each is not None and (
            found is None or each.action.severity >= found.action.severity
        ):
            found = each
    return found


def _judged(
    score: CategoryScore, policy: SafetyPolicy, subject: SafetySubject | None
) -> tuple[SafetyScore, SafetyRule | None]:
    """A score with its threshold, and the rule that flags it."""
    rules = [each for each in policy.rules if each.applies(score.category, subject)]
    reached = [each for each in rules if score.score >= each.threshold]
    # The harshest that it reached, or else the first that it would reach.
    flagging = max(
        reached, key=lambda rule: (rule.action.severity, -rule.threshold), default=None
    )
    nearest = min(rules, key=lambda rule: rule.threshold, default=None)
    shown = flagging or nearest
    return SafetyScore(
        score.category,
        score.score,
        0.0 if shown is None else shown.threshold,
        flagging is not None,
        score.classifier,
    ), flagging


def _harshest(actions: Iterable[SafetyAction]) -> SafetyAction:
    return max(actions, key=lambda each: each.severity, default=SafetyAction.ALLOW)
