"""Numbers that are not finite, unknown enum values and fields never reach a servicer."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import Message

from deviceops.v1 import (
    inference_pb2,
    postprocessing_pb2,
    processing_pb2,
    sampling_pb2,
    workflow_pb2,
)
from domains.errors import FieldViolation, Reason
from server.interceptors.content import unfit


def found(request: Message) -> list[FieldViolation]:
    """What is wrong with a request that may lack what it needs."""
    return [violation for violation in unfit(request, whole=False) if violation is not None]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named_by_its_path(value: float) -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.loras.add(model_id="a", weight=1.0)
    request.settings.loras.add(model_id="b", weight=value)

    (violation,) = found(request)
    assert violation.field == "settings.loras[1].weight"
    assert violation.reason is Reason.NON_FINITE_NUMBER


def test_an_unknown_enum_value_is_named_with_those_there_are() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.scheduler.scheduler = 99  # type: ignore[assignment]

    (violation,) = found(request)
    assert violation.field == "settings.scheduler.scheduler"
    assert violation.reason is Reason.ENUM_VALUE_UNKNOWN
    assert "SCHEDULER_DDIM" in violation.description


def test_lists_of_enums_and_maps_of_messages_are_looked_into() -> None:
    listed = processing_pb2.SessionFilter(states=[1, 77])  # type: ignore[list-item]
    mapped = workflow_pb2.RunWorkflowRequest()
    mapped.arguments["strength"].number = math.nan

    for request, field in ((listed, "states[1]"), (mapped, "arguments['strength'].number")):
        assert [violation.field for violation in found(request)] == [field]


def test_every_fault_of_a_request_is_named() -> None:
    request = postprocessing_pb2.ProcessImageRequest()
    request.steps.add().sharpen.amount = math.inf
    request.steps.add().resize.filter = 42  # type: ignore[assignment]

    assert [violation.field for violation in found(request)] == [
        "steps[0].sharpen.amount",
        "steps[1].resize.filter",
    ]


def test_ordinary_requests_pass() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.guidance.scale = 7.5
    request.settings.scheduler.scheduler = sampling_pb2.SCHEDULER_DDIM
    request.options.metadata["a"] = "b"

    assert found(request) == []


def test_a_field_of_a_newer_client_is_refused_wherever_it_stands() -> None:
    newer = bytes([0xA2, 0x06, 1, 0x61])  # field 100, one byte of text
    request = inference_pb2.GenerateRequest.FromString(newer)
    request.settings.guidance.MergeFromString(newer)
    request.settings.loras.add(model_id="a").MergeFromString(newer)

    violations = found(request)

    assert [violation.field for violation in violations] == [
        "GenerateRequest",
        "settings.loras[0]",
        "settings.guidance",
    ]
    assert {violation.reason for violation in violations} == {Reason.UNKNOWN_FIELD}
    assert "100" in violations[0].description
    assert "LoraWeight" in violations[1].description


def test_a_thousand_unknown_fields_are_named_three_times() -> None:
    newer = bytes([0xA2, 0x06, 1, 0x61]) * 1000

    assert len(found(inference_pb2.GenerateRequest.FromString(newer))) == 3


def test_what_is_missing_is_named_wherever_it_is_needed() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.loras.add(model_id="a")
    request.settings.loras.add(weight=9)
    request.postprocessing.add().resize.width = 1

    missing = {
        violation.field: violation for violation in unfit(request) if violation is not None
    }

    assert list(missing) == ["settings.loras[1].model_id", "postprocessing[0].resize.height"]
    assert {each.reason for each in missing.values()} == {Reason.REQUIRED_FIELD_MISSING}
    assert [each.description for each in missing.values()] == [
        "Must be set.",
        "Must be set: from 1 to 16384 pixels.",
    ]
    assert [each for each in unfit(request, whole=False) if each is not None] == []


def test_messages_of_maps_must_have_what_they_need_too() -> None:
    request = workflow_pb2.RunWorkflowRequest()
    request.arguments["picture"].images.images.add().session_image.image_index = 1

    (violation,) = (each for each in unfit(request) if each is not None)
    assert violation.field == "arguments['picture'].images.images[0].session_image.session_id"
