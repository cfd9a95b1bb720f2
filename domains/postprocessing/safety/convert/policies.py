"""Safety between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterator

from deviceops.v1 import safety_pb2
from domains.conversions import EnumMap, given, timestamp
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.postprocessing.safety.core.store import KeptPolicy
from domains.provenance.convert import demanded_from_proto, wish_to_proto
from domains.safety import ClassifierFailure, SafetyAction, SafetyPolicy, SafetyRule
from domains.session.convert import SAFETY_ACTIONS, SAFETY_SUBJECTS
from domains.values import NO_MARKS

FAILURES = EnumMap(ClassifierFailure, safety_pb2.ClassifierFailure, "CLASSIFIER_FAILURE_")
_SERVERS = ("version", "owner", "create_time")
"""Fields that only the server fills."""


def policy_from_proto(message: safety_pb2.SafetyPolicy, path: str = "policy") -> SafetyPolicy:
    """A policy as a client sent it, unchecked; `path` is where it stands in the request.

    Raises:
        InvalidArgument: It sets what only the server sets, or has an unknown enum number.
    """
    InvalidArgument.check(*_servers_own(message, path))
    return SafetyPolicy(
        message.policy_id,
        description=message.description,
        rules=tuple(
            _rule(rule, f"{path}.rules[{place}]") for place, rule in enumerate(message.rules)
        ),
        classifiers=tuple(message.postprocessor_ids),
        on_classifier_failure=FAILURES.from_proto(
            message.on_classifier_failure,
            ClassifierFailure.BLOCK,
            field=f"{path}.on_classifier_failure",
        ),
        prompt_words=tuple(message.prompt_words),
        marks=demanded_from_proto(message.provenance),
    )


def _rule(message: safety_pb2.SafetyRule, path: str) -> SafetyRule:
    return SafetyRule(
        message.category,
        given(message, "threshold"),
        SAFETY_ACTIONS.from_proto(message.action, SafetyAction.ALLOW, field=f"{path}.action"),
        SAFETY_SUBJECTS.optional_from_proto(message.subject, field=f"{path}.subject"),
    )


def _servers_own(message: safety_pb2.SafetyPolicy, path: str) -> Iterator[FieldViolation]:
    for field, _ in message.ListFields():
        name = field.name
        if name in _SERVERS:
            rule = "Must be unset: the server fills it."
            yield FieldViolation(f"{path}.{name}", Reason.FIELDS_CONFLICT, rule)


def policy_to_proto(kept: KeptPolicy) -> safety_pb2.SafetyPolicy:
    """A policy as it is kept, with every default filled in."""
    policy = kept.policy
    return safety_pb2.SafetyPolicy(
        policy_id=policy.policy_id,
        version=policy.version,
        description=policy.description,
        rules=[
            safety_pb2.SafetyRule(
                category=rule.category,
                threshold=rule.threshold,
                action=SAFETY_ACTIONS.to_proto(rule.action),
                subject=SAFETY_SUBJECTS.to_proto(rule.subject),
            )
            for rule in policy.rules
        ],
        postprocessor_ids=policy.classifiers,
        create_time=timestamp(policy.create_time),
        on_classifier_failure=FAILURES.to_proto(policy.on_classifier_failure),
        prompt_words=policy.prompt_words,
        provenance=wish_to_proto(policy.marks.wish) if policy.marks != NO_MARKS else None,
        owner=policy.owner,
        is_default=kept.is_default,
    )
