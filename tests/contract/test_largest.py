"""No legal answer outgrows a message, and one piece of work fits with its pictures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from deviceops.v1 import common_pb2, event_pb2, model_pb2, processing_pb2, workflow_pb2
from tests.contract import protos
from tests.contract.largest import (
    INLINE_BYTES,
    MESSAGE_BYTES,
    Largest,
    Unbounded,
    of_the_contract,
)
from tests.contract.methods import METHODS
from tests.contract.stated import LimitNumbers, documented

# Files that a request may bring along.
INLINE = frozenset({"InputImage.inline", "LutStep.cube"})
# What asks for many pieces of work may be too large for one message: it is sent in parts, or
# the pictures as artifacts.
IN_PARTS = {
    "GenerateBatch": "items with settings of their own",
    "CreateBatch": "further items come with AddBatchItems",
    "AddBatchItems": "called as often as needed",
    "CreateWorkflow": "bounded as a whole",
    "UpdateWorkflow": "bounded as a whole",
    "ValidateWorkflow": "a workflow and its arguments",
    "RunWorkflow": "a workflow and its arguments",
}


def _name(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}.{method.name}"


def _below(message: Descriptor, seen: set[str] | None = None) -> Iterator[Descriptor]:
    seen = set() if seen is None else seen
    if message.full_name not in seen:
        seen.add(message.full_name)
        yield message
        for field in message.fields:
            if field.message_type is not None:
                yield from _below(field.message_type, seen)


def _brings_pictures(method: MethodDescriptor) -> bool:
    return common_pb2.InputImage.DESCRIPTOR in set(_below(method.input_type))


PICTURED = [method for method in METHODS if _brings_pictures(method)]


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_the_largest_answer_fits_in_a_message(method: MethodDescriptor) -> None:
    assert of_the_contract().message(method.output_type).ByteSize() <= MESSAGE_BYTES


@pytest.mark.parametrize("method", [m for m in PICTURED if m.name not in IN_PARTS], ids=_name)
def test_the_largest_request_fits_with_its_inline_pictures(method: MethodDescriptor) -> None:
    rest = of_the_contract().message(method.input_type, INLINE)
    assert rest.ByteSize() + INLINE_BYTES <= MESSAGE_BYTES


def test_what_comes_in_parts_brings_pictures() -> None:
    assert set(IN_PARTS) <= {method.name for method in PICTURED}


def test_the_joint_limits_are_those_of_the_contract() -> None:
    rules = (protos.ROOT / protos.PUBLIC / "common.proto").read_text("utf-8")
    assert f"at most {MESSAGE_BYTES} bytes" in rules
    assert f"at most {INLINE_BYTES}\n//   bytes together" in rules


def _with(name: str, **numbers: float | None) -> Largest:
    limits: dict[str, LimitNumbers] = documented(protos.public())
    limits[name] = {**limits[name], **numbers}
    return Largest(limits)


def test_a_list_without_a_limit_is_found() -> None:
    with pytest.raises(Unbounded, match=r"GetModelResponse\.components"):
        _with("GetModelResponse.components", max_elements=None).message(
            model_pb2.GetModelResponse.DESCRIPTOR
        )


def test_a_limit_that_is_too_large_is_found() -> None:
    large = _with("SafetyVerdict.scores", max_elements=100)
    completed = large.message(event_pb2.SessionCompleted.DESCRIPTOR)
    assert completed.ByteSize() > MESSAGE_BYTES


def test_pages_end_by_bytes_and_hold_what_fits() -> None:
    page = of_the_contract().message(processing_pb2.ListSessionsResponse.DESCRIPTOR)
    assert isinstance(page, processing_pb2.ListSessionsResponse)
    assert len(page.sessions) == 1
    assert len(page.sessions[0].images) == 256
    assert page.sessions[0].options.metadata


def test_a_whole_workflow_has_the_size_that_is_stated_for_it() -> None:
    workflow = of_the_contract().message(workflow_pb2.Workflow.DESCRIPTOR)
    assert 0 <= 3670016 + 1024 - workflow.ByteSize() < 8
