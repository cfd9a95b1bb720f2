"""Checks of pictures, prompts and scores from the requests that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from deviceops.v1 import event_pb2, safety_pb2
from domains.clients import caller
from domains.conversions import digest
from domains.device.convert import placement_from_proto
from domains.device.types import ANY_DEVICE
from domains.errors import FieldViolation, NotFound
from domains.picture.convert import image_from_proto
from domains.postprocessing.safety.convert.policies import policy_from_proto
from domains.postprocessing.safety.core.checking import CheckRequest, SafetyChecks
from domains.postprocessing.safety.core.resolving import resolved
from domains.postprocessing.safety.core.rules import check_policy
from domains.postprocessing.safety.core.store import PolicyStore
from domains.safety import SafetyPolicy, SafetyReport
from domains.session.convert import (
    Reports,
    Starters,
    options_from_proto,
    verdict_to_proto,
)
from domains.session.core.plan import SessionRequest

R = TypeVar("R", safety_pb2.CheckSafetyRequest, safety_pb2.TestPolicyRequest)


@dataclass(frozen=True)
class CheckRequests:
    """Makes sessions of requests to check pictures, or to try a policy.

    Args:
        store: The policies.
        checks: Judges.
        starters: Make sessions of requests.
    """

    store: PolicyStore
    checks: SafetyChecks
    starters: Starters

    def register(self) -> None:
        """Have it known how the requests become sessions."""
        know = self.starters.know
        know(safety_pb2.CheckSafetyRequest, self._check, self.checks.check)
        know(safety_pb2.TestPolicyRequest, self._test, self.checks.check)

    def asked(self, request: safety_pb2.CheckSafetyRequest) -> SessionRequest:
        """A check that a client asks for. It keeps the version of the policy that holds now,
        whatever becomes of the policy, also where a later server goes on with it."""
        pinned = safety_pb2.CheckSafetyRequest()
        pinned.CopyFrom(request)
        try:
            policy = self._named(request.policy_id, request.policy_version)
        except NotFound:
            pass  # preparing it says so, unless an earlier call began it
        else:
            pinned.policy_id, pinned.policy_version = policy.policy_id, policy.version
        return replace(self.starters.request_of(pinned), digest=digest(request))

    def _named(self, policy_id: str, version: int, needed: str = "") -> SafetyPolicy:
        return resolved(self.store, policy_id, version, caller(), needed=needed)

    def _check(self, message: safety_pb2.CheckSafetyRequest) -> CheckRequest:
        return CheckRequest(
            "CheckSafetyRequest",
            tuple(map(image_from_proto, message.images)),
            tuple(message.prompts),
            partial(self._named, message.policy_id, message.policy_version),
            options_from_proto(message.options),
            digest(message),
            placement_from_proto(message.placement),
            placed=message.HasField("placement"),
        )

    def _test(self, message: safety_pb2.TestPolicyRequest) -> CheckRequest:
        policy: Callable[[], SafetyPolicy] = partial(
            self._named, message.policy_id, 0, "policy_id"
        )
        wrong: tuple[FieldViolation, ...] = ()
        if message.HasField("policy"):
            given = policy_from_proto(message.policy)
            wrong = tuple(check_policy(given, named=bool(given.policy_id)))
            policy = partial(_itself, given)
        return CheckRequest(
            "TestPolicyRequest",
            tuple(map(image_from_proto, message.images)),
            tuple(message.prompts),
            policy,
            options_from_proto(message.options),
            digest(message),
            ANY_DEVICE,
            scores=dict(message.scores) if message.scores else None,
            wrong=wrong,
        )


def _itself(policy: SafetyPolicy) -> SafetyPolicy:
    return policy


def _report(report: SafetyReport) -> event_pb2.SafetyReport:
    return event_pb2.SafetyReport(verdicts=map(verdict_to_proto, report.verdicts))


REPORTS: Reports = {SafetyReport: _report}
"""What turns reports of checks into messages."""
