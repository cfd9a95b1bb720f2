"""What is wrong with a policy that a client wants to be kept or tried."""

from __future__ import annotations

from collections.abc import Iterator

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS
from domains.safety import WORDS, SafetyAction, SafetyPolicy, SafetyRule, SafetySubject
from domains.safety.classifiers import CATEGORIES, KNOWN, scorers_of
from domains.safety.words import usable

_DELIVERED = (None, SafetySubject.RESULT)


def check_policy(
    policy: SafetyPolicy, path: str = "policy", *, named: bool = True
) -> Iterator[FieldViolation]:
    """Every rule that a policy breaks; `path` is where it stands in the request. One that is
    only tried need not be `named`."""
    found = [
        checks.name(f"{path}.policy_id", policy.policy_id) if named else None,
        checks.line(
            f"{path}.description", policy.description, LIMITS["SafetyPolicy.description"]
        ),
        checks.elements(f"{path}.rules", len(policy.rules), LIMITS["SafetyPolicy.rules"]),
        checks.elements(
            f"{path}.postprocessor_ids",
            len(policy.classifiers),
            LIMITS["SafetyPolicy.postprocessor_ids"],
        ),
        *checks.lines(
            f"{path}.prompt_words", policy.prompt_words, LIMITS["SafetyPolicy.prompt_words"]
        ),
    ]
    yield from (each for each in found if each is not None)
    yield from _check_rules(policy.rules, f"{path}.rules")
    yield from _check_scored(policy, path)
    for place, name in enumerate(policy.classifiers):
        if name not in KNOWN:
            rule = f"Must be one of {', '.join(KNOWN)}."
            field = f"{path}.postprocessor_ids[{place}]"
            yield FieldViolation(field, Reason.FIELD_OUT_OF_RANGE, rule)
    for place, word in enumerate(policy.prompt_words):
        if not usable(word):
            rule = "Must have a letter or digit in each word: stars alone match everything."
            field = f"{path}.prompt_words[{place}]"
            yield FieldViolation(field, Reason.TEXT_INVALID, rule)


def _check_scored(policy: SafetyPolicy, path: str) -> Iterator[FieldViolation]:
    """Rules that none of the classifiers which the policy names scores anything for."""
    named = [name for name in policy.classifiers if name in KNOWN]
    for place, rule in enumerate(policy.rules if named else ()):
        if rule.category == WORDS or rule.category not in CATEGORIES:
            continue
        if not scorers_of(rule.category, named):
            them = " or ".join(scorers_of(rule.category, KNOWN))
            why = f"None of postprocessor_ids scores it; add {them}, or leave them all out."
            field = f"{path}.rules[{place}].category"
            yield FieldViolation(field, Reason.FIELDS_CONFLICT, why)


def _check_rules(rules: tuple[SafetyRule, ...], path: str) -> Iterator[FieldViolation]:
    first: dict[object, int] = {}
    for place, rule in enumerate(rules):
        at = f"{path}[{place}]"
        limit = LIMITS["SafetyRule.threshold"]
        broken = checks.number(f"{at}.threshold", rule.threshold, limit)
        yield from () if broken is None else (broken,)
        if not rule.category:
            yield FieldViolation(
                f"{at}.category", Reason.REQUIRED_FIELD_MISSING, "Must be set."
            )
        elif rule.category not in CATEGORIES:
            # A misspelt one would never flag anything.
            known = f"Must be one of {', '.join(CATEGORIES)}."
            yield FieldViolation(f"{at}.category", Reason.FIELD_OUT_OF_RANGE, known)
        if rule.action is SafetyAction.BLUR and (
            rule.category == WORDS or rule.subject not in _DELIVERED
        ):
            why = "BLUR is for pictures that are delivered; choose WARN or BLOCK."
            yield FieldViolation(f"{at}.action", Reason.FIELDS_CONFLICT, why)
        earlier = first.setdefault((rule.category, rule.subject, rule.threshold), place)
        if earlier != place:
            why = f"Is about the same scores as rules[{earlier}]; leave one of them out."
            yield FieldViolation(at, Reason.FIELDS_CONFLICT, why)
