"""The calls about policies through a real channel: what comes back, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc
import pytest

from deviceops.v1 import common_pb2, postprocessing_pb2_grpc
from deviceops.v1 import finishing_pb2 as fin
from deviceops.v1 import safety_pb2 as pb
from domains.postprocessing.servicer import PostprocessingServicer
from tests.domains.postprocessing.safety.policies import Disk, parts_of
from tests.domains.wire import channel_to, refusal

Stub: TypeAlias = "postprocessing_pb2_grpc.PostprocessingServiceAsyncStub"
Change = Callable[[pb.SafetyPolicy], object]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def stub(disk: Disk) -> AsyncIterator[Stub]:
    unused: Any = None
    servicer = PostprocessingServicer(  # type: ignore[abstract]
        *[unused] * 5, parts_of(disk)
    )
    add = postprocessing_pb2_grpc.add_PostprocessingServiceServicer_to_server
    async with channel_to(add, servicer) as channel:
        yield postprocessing_pb2_grpc.PostprocessingServiceStub(channel)


def policy(**fields: object) -> pb.SafetyPolicy:
    return pb.SafetyPolicy(
        policy_id="strict",
        rules=[pb.SafetyRule(category="nsfw", action=fin.SAFETY_ACTION_BLOCK)],
        **fields,  # type: ignore[arg-type]
    )


async def create(stub: Stub, sent: pb.SafetyPolicy) -> pb.SafetyPolicy:
    return (await stub.CreatePolicy(pb.CreatePolicyRequest(policy=sent))).policy


async def test_a_policy_comes_back_whole(stub: Stub) -> None:
    sent = policy(description="For all.", prompt_words=["bad*"], postprocessor_ids=["opennsfw"])
    sent.rules.add(
        category="words", threshold=0, subject=fin.SAFETY_SUBJECT_PROMPT
    ).action = fin.SAFETY_ACTION_WARN
    made = await create(stub, sent)
    assert made.rules[0].threshold == 0.5
    assert made.rules[1].HasField("threshold")
    assert made.on_classifier_failure == pb.CLASSIFIER_FAILURE_BLOCK
    assert (made.version, made.owner, made.is_default) == (1, "default", False)
    assert made.HasField("create_time")
    expected = pb.SafetyPolicy()
    expected.CopyFrom(sent)
    expected.MergeFrom(
        pb.SafetyPolicy(version=1, owner="default", create_time=made.create_time)
    )
    expected.on_classifier_failure = pb.CLASSIFIER_FAILURE_BLOCK
    expected.rules[0].threshold = 0.5
    assert made == expected
    got = await stub.GetPolicy(pb.GetPolicyRequest(policy_id="strict"))
    listed = await stub.ListPolicies(pb.ListPoliciesRequest())
    assert [got.policy] == [made] == list(listed.policies)


async def test_versions_are_made_read_and_deleted(stub: Stub) -> None:
    await create(stub, policy())
    update = pb.UpdatePolicyRequest(policy=policy(is_default=True), expected_version=1)
    changed = (await stub.UpdatePolicy(update)).policy
    assert (changed.version, changed.is_default) == (2, True)
    again = await refusal(stub.UpdatePolicy(update))
    assert (again.code, again.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STATE_CONFLICT",
    )
    old = await stub.GetPolicy(pb.GetPolicyRequest(policy_id="strict", version=1))
    assert old.policy.version == 1
    await stub.DeletePolicy(pb.DeletePolicyRequest(policy_id="strict", expected_version=2))
    for gone in (
        stub.GetPolicy(pb.GetPolicyRequest(policy_id="strict")),
        stub.DeletePolicy(pb.DeletePolicyRequest(policy_id="strict")),
        stub.UpdatePolicy(update),
    ):
        refused = await refusal(gone)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.NOT_FOUND,
            "POLICY_NOT_FOUND",
        )


async def test_a_policy_in_use_stays(stub: Stub, disk: Disk) -> None:
    await create(stub, policy())
    disk.users["default/strict"] = "some-session"
    refused = await refusal(stub.DeletePolicy(pb.DeletePolicyRequest(policy_id="strict")))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "STATE_CONFLICT",
    )
    assert refused.metadata["state"] == "in-use"


async def test_a_name_is_taken_once(stub: Stub) -> None:
    await create(stub, policy())
    refused = await refusal(create(stub, policy()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")


async def test_a_page_token_of_nobody_and_a_size_of_too_much(stub: Stub) -> None:
    refused = await refusal(stub.ListPolicies(pb.ListPoliciesRequest(page_token="x")))
    assert refused.reason == "PAGE_TOKEN_INVALID"
    refused = await refusal(stub.ListPolicies(pb.ListPoliciesRequest(page_size=1001)))
    assert (refused.reason, refused.fields) == ("FIELD_OUT_OF_RANGE", ("page_size",))


def _rule(**fields: object) -> Change:
    return lambda sent: sent.rules.add(**{"category": "nsfw", "threshold": 0.9, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        (lambda p: setattr(p, "policy_id", "../x"), "policy_id", "NAME_INVALID"),
        (lambda p: setattr(p, "policy_id", ""), "policy_id", "NAME_INVALID"),
        (lambda p: setattr(p, "version", 1), "version", "FIELDS_CONFLICT"),
        (lambda p: setattr(p, "owner", "me"), "owner", "FIELDS_CONFLICT"),
        (lambda p: p.create_time.GetCurrentTime(), "create_time", "FIELDS_CONFLICT"),
        (lambda p: setattr(p, "description", "x" * 1025), "description", "TEXT_TOO_LONG"),
        (lambda p: setattr(p, "description", "a\nb"), "description", "TEXT_INVALID"),
        (_rule(category=""), "rules[1].category", "REQUIRED_FIELD_MISSING"),
        (_rule(category="nfsw"), "rules[1].category", "FIELD_OUT_OF_RANGE"),
        (_rule(threshold=1.1), "rules[1].threshold", "FIELD_OUT_OF_RANGE"),
        (_rule(threshold=float("nan")), "rules[1].threshold", "NON_FINITE_NUMBER"),
        (_rule(threshold=0.5), "rules[1]", "FIELDS_CONFLICT"),
        (_rule(action=77), "rules[1].action", "ENUM_VALUE_UNKNOWN"),
        (_rule(subject=77), "rules[1].subject", "ENUM_VALUE_UNKNOWN"),
        (_rule(category="words", action=3), "rules[1].action", "FIELDS_CONFLICT"),
        (_rule(subject=1, action=3), "rules[1].action", "FIELDS_CONFLICT"),
        (_rule(subject=2, action=3), "rules[1].action", "FIELDS_CONFLICT"),
        (
            lambda p: [_rule(threshold=k / 64)(p) for k in range(32)],
            "rules",
            "TOO_MANY_ELEMENTS",
        ),
        (
            lambda p: setattr(p, "on_classifier_failure", 77),
            "on_classifier_failure",
            "ENUM_VALUE_UNKNOWN",
        ),
        (
            lambda p: p.postprocessor_ids.append("mine"),
            "postprocessor_ids[0]",
            "FIELD_OUT_OF_RANGE",
        ),
        (
            lambda p: p.postprocessor_ids.append("nsfwjs"),
            "rules[0].category",
            "FIELDS_CONFLICT",
        ),
        (
            lambda p: p.postprocessor_ids.extend(["opennsfw"] * 9),
            "postprocessor_ids",
            "TOO_MANY_ELEMENTS",
        ),
        (lambda p: p.prompt_words.append("*"), "prompt_words[0]", "TEXT_INVALID"),
        (lambda p: p.prompt_words.append("x" * 65), "prompt_words[0]", "TEXT_TOO_LONG"),
        (lambda p: p.prompt_words.append("a\u202eb"), "prompt_words[0]", "TEXT_INVALID"),
        (lambda p: p.prompt_words.extend(["a"] * 1001), "prompt_words", "TOO_MANY_ELEMENTS"),
    ],
)
async def test_what_is_wrong_is_named(
    stub: Stub, change: Change, field: str, reason: str
) -> None:
    sent = policy()
    change(sent)
    refused = await refusal(create(stub, sent))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == reason
    assert refused.fields[0] == f"policy.{field}"
    update = pb.UpdatePolicyRequest(policy=sent, expected_version=1)
    assert (await refusal(stub.UpdatePolicy(update))).fields == refused.fields


async def test_a_policy_may_demand_marks(stub: Stub) -> None:
    sent = policy()
    sent.provenance.watermark = common_pb2.TOGGLE_ON
    kept = await create(stub, sent)
    assert kept.provenance == common_pb2.Provenance(
        manifest=common_pb2.TOGGLE_OFF, watermark=common_pb2.TOGGLE_ON
    )
