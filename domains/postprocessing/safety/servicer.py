"""The safety calls of PostprocessingService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import postprocessing_pb2_grpc, safety_pb2
from domains.clients import caller
from domains.errors import InvalidArgument
from domains.postprocessing.safety.convert.checks import CheckRequests
from domains.postprocessing.safety.convert.policies import policy_from_proto, policy_to_proto
from domains.postprocessing.safety.core.resolving import PolicyFinder
from domains.postprocessing.safety.core.rules import check_policy
from domains.postprocessing.safety.core.store import PolicyStore
from domains.safety import Decided, SafetyPolicy
from domains.session.convert import SessionStreams

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True)
class SafetyParts:
    """What calls about safety are answered with; `decided` hears of every verdict."""

    store: PolicyStore
    policies: PolicyFinder
    requests: CheckRequests
    streams: SessionStreams
    decided: Decided


class SafetyCalls(postprocessing_pb2_grpc.PostprocessingServiceServicer):
    """The calls about safety policies and checks.

    Args:
        safety: What answers them.
    """

    def __init__(self, safety: SafetyParts) -> None:
        self._of_safety = safety

    async def CreatePolicy(
        self, request: safety_pb2.CreatePolicyRequest, context: Context
    ) -> safety_pb2.CreatePolicyResponse:
        kept = await self._of_safety.store.create(
            _checked(request.policy), caller(), is_default=request.policy.is_default
        )
        return safety_pb2.CreatePolicyResponse(policy=policy_to_proto(kept))

    async def GetPolicy(
        self, request: safety_pb2.GetPolicyRequest, context: Context
    ) -> safety_pb2.GetPolicyResponse:
        kept = self._of_safety.store.get(request.policy_id, caller(), request.version)
        return safety_pb2.GetPolicyResponse(policy=policy_to_proto(kept))

    async def ListPolicies(
        self, request: safety_pb2.ListPoliciesRequest, context: Context
    ) -> safety_pb2.ListPoliciesResponse:
        found = self._of_safety.store.listed(
            caller(),
            request.owner,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(policy_to_proto)
        return safety_pb2.ListPoliciesResponse(
            policies=page.items, next_page_token=page.next_page_token
        )

    async def UpdatePolicy(
        self, request: safety_pb2.UpdatePolicyRequest, context: Context
    ) -> safety_pb2.UpdatePolicyResponse:
        kept = await self._of_safety.store.update(
            _checked(request.policy),
            caller(),
            request.expected_version,
            is_default=request.policy.is_default,
        )
        return safety_pb2.UpdatePolicyResponse(policy=policy_to_proto(kept))

    async def DeletePolicy(
        self, request: safety_pb2.DeletePolicyRequest, context: Context
    ) -> safety_pb2.DeletePolicyResponse:
        await self._of_safety.store.delete(
            request.policy_id, caller(), request.expected_version
        )
        return safety_pb2.DeletePolicyResponse()

    def CheckSafety(
        self, request: safety_pb2.CheckSafetyRequest, context: Context
    ) -> AsyncIterator[safety_pb2.CheckSafetyResponse]:
        wanted = self._of_safety.requests.asked(request)
        response = safety_pb2.CheckSafetyResponse
        return self._of_safety.streams.run(wanted, context, response, request.delivery)

    def TestPolicy(
        self, request: safety_pb2.TestPolicyRequest, context: Context
    ) -> AsyncIterator[safety_pb2.TestPolicyResponse]:
        return self._of_safety.streams.start(request, context, safety_pb2.TestPolicyResponse)


def _checked(message: safety_pb2.SafetyPolicy) -> SafetyPolicy:
    policy = policy_from_proto(message)
    InvalidArgument.check(*check_policy(policy))
    return policy
