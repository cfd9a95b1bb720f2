"""Every request survives the wire, whatever its fields hold; and the strategy reaches far."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from deviceops.v1 import (
    generation_pb2,
    processing_pb2,
    session_pb2,
    workflow_pb2,
)
from domains.errors import Reason
from server.interceptors.content import unfit
from tests.contract.largest import of_the_contract
from tests.contract.methods import METHODS
from tests.contract.strategies import newer, requests
from tests.contract.test_largest import IN_PARTS, INLINE

Settings = generation_pb2.GenerationSettings
by_rpc = pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: method.full_name.split("v1.")[1]
)
MODES = ("image_to_image", "inpainting")
# Requests whose every list holds as much as it may: of those that one message can hold.
IN_ONE = [method for method in METHODS if method.name not in IN_PARTS]
quick = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@by_rpc
@quick
@given(data=st.data())
def test_a_request_survives_the_wire(method: MethodDescriptor, data: st.DataObject) -> None:
    message_class: type[Message] = GetMessageClass(method.input_type)
    request = data.draw(requests(message_class))
    wire = request.SerializeToString(deterministic=True)
    received = message_class.FromString(wire)
    # Bytes, because NaN is unequal to itself.
    assert received.SerializeToString(deterministic=True) == wire
    assert len(received.ListFields()) == len(request.ListFields())


@by_rpc
@quick
@given(data=st.data())
def test_a_newer_clients_field_is_found_wherever_it_stands(
    method: MethodDescriptor, data: st.DataObject
) -> None:
    message_class: type[Message] = GetMessageClass(method.input_type)
    request, number = data.draw(newer(message_class))
    received = message_class.FromString(request.SerializeToString())
    found = [
        violation.description
        for violation in unfit(received)
        if violation and violation.reason is Reason.UNKNOWN_FIELD
    ]
    assert [f"number {number} " in said for said in found] == [True]


@by_rpc
@quick
@given(data=st.data())
def test_without_one_nothing_is_unknown(method: MethodDescriptor, data: st.DataObject) -> None:
    request = data.draw(requests(GetMessageClass(method.input_type)))
    found = {violation.reason for violation in unfit(request, whole=False) if violation}
    assert found <= {Reason.NON_FINITE_NUMBER, Reason.ENUM_VALUE_UNKNOWN}


@pytest.mark.parametrize("method", IN_ONE, ids=lambda method: str(method.name))
def test_the_largest_legal_request_is_fit(method: MethodDescriptor) -> None:
    request = of_the_contract().message(method.input_type, INLINE)
    assert [violation for violation in unfit(request) if violation] == []


@given(first=st.sampled_from(MODES), second=st.sampled_from(MODES))
def test_of_two_members_of_a_oneof_the_last_one_stands(first: str, second: str) -> None:
    """Both can stand on the wire; whoever reads must never see two."""
    wire = b"".join(_mode(name).SerializeToString() for name in (first, second))
    received = Settings.FromString(wire)
    assert received.WhichOneof("mode") == second
    assert [name for name in MODES if received.HasField(name)] == [second]


def _mode(name: str) -> generation_pb2.GenerationSettings:
    settings_message = Settings()
    getattr(settings_message, name).strength = 0.5
    return settings_message


FAR: list[tuple[type[Message], list[Callable[[Any], bool]]]] = [
    (
        Settings,
        [
            lambda m: math.isnan(m.guidance.scale),
            lambda m: math.isinf(m.guidance.scale),
            lambda m: m.WhichOneof("mode") == "inpainting",
            lambda m: m.WhichOneof("mode") == "image_to_image",
            lambda m: m.seed >= 2**62,
            lambda m: "\0" in m.prompt,
            lambda m: "\u202e" in m.model_id,
            lambda m: m.prompt_syntax == 999,
            lambda m: len(m.loras) > 1 and m.loras[0].HasField("weight"),
            lambda m: m.HasField("prompt") and not m.prompt,
            lambda m: m.scheduler.WhichOneof("options") == "churn",
        ],
    ),
    (generation_pb2.GenerationOverlay, [lambda m: "loras" in m.cleared_fields.paths]),
    (processing_pb2.UpdateSessionRequest, [lambda m: "*" in m.update_fields.paths]),
    (
        session_pb2.WorkOptions,
        [lambda m: len(m.metadata) > 0, lambda m: m.run_timeout.seconds < 0],
    ),
    (
        workflow_pb2.RunWorkflowRequest,
        [lambda m: len(m.arguments) > 0, lambda m: len(m.workflow.steps) > 0],
    ),
]


@pytest.mark.demonstration
@pytest.mark.parametrize(("message_class", "ends"), FAR, ids=[kind.__name__ for kind, _ in FAR])
def test_the_strategy_reaches(
    message_class: type[Message], ends: list[Callable[[Any], bool]]
) -> None:
    """Each of these is met among the same twenty thousand messages, most of them soon."""
    missing = set(range(len(ends)))

    def met_last(message: Message) -> bool:
        missing.difference_update([at for at in missing if ends[at](message)])
        return not missing

    far = settings(
        quick,
        max_examples=20_000,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    find(requests(message_class), met_last, settings=far, random=Random(0))
    assert not missing
