"""Every request survives the wire, whatever its fields hold; and the strategy reaches far."""

from __future__ import annotations

import math
from random import Random

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from deviceops.v1 import (
    artifact_pb2,
    device_pb2,
    inference_pb2,
    memory_pb2,
    model_pb2,
    postprocessing_pb2,
    processing_pb2,
    session_pb2,
)
from tests.contract.strategies import requests

METHODS: list[MethodDescriptor] = [
    method
    for module in (
        artifact_pb2,
        device_pb2,
        inference_pb2,
        memory_pb2,
        model_pb2,
        postprocessing_pb2,
        processing_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
Settings = inference_pb2.GenerationSettings
quick = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.split("v1.")[1])
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


@pytest.mark.parametrize(
    ("message_class", "reached"),
    [
        (Settings, lambda m: math.isnan(m.guidance_scale)),
        (Settings, lambda m: math.isinf(m.guidance_scale)),
        (Settings, lambda m: m.WhichOneof("mode") == "inpainting"),
        (Settings, lambda m: m.WhichOneof("mode") == "image_to_image"),
        (Settings, lambda m: m.seed >= 2**63),
        (Settings, lambda m: "\0" in m.prompt),
        (Settings, lambda m: "\u202e" in m.model_id),
        (Settings, lambda m: m.prompt_syntax == 999),
        (Settings, lambda m: len(m.loras) > 1 and m.loras[0].HasField("weight")),
        (session_pb2.SessionOptions, lambda m: len(m.metadata) > 0),
        (session_pb2.SessionOptions, lambda m: m.timeout.seconds < 0),
        (processing_pb2.RunWorkflowRequest, lambda m: len(m.arguments) > 0),
        (processing_pb2.RunWorkflowRequest, lambda m: len(m.workflow.steps) > 0),
    ],
)
def test_the_strategy_reaches(message_class, reached) -> None:  # type: ignore[no-untyped-def]
    far = settings(
        quick,
        max_examples=20_000,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    found = find(requests(message_class), reached, settings=far, random=Random(0))
    assert reached(found)
