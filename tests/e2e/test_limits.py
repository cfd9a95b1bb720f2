"""Every limit of the contract is kept by the server, wherever in a request it applies.

For each entry of the table and each place in a request where its field stands, a value just
outside is sent to a real server. What is not built yet says so instead.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from domains.conversions import REASONS
from domains.errors import Reason
from domains.limits import LIMITS, Limit
from tests.contract.whole import complete
from tests.e2e.errors import Refusal
from tests.e2e.memory_calls import HOST, MIB, free, lend
from tests.e2e.test_every_rpc import EVERY_RPC, Rpc
from tests.running import Client, RunningServer

CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Case:
    """A field of a request, and a value that its limit does not allow."""

    rpc: Rpc
    steps: tuple[Any, ...]
    what: str
    value: Any

    @property
    def name(self) -> str:
        path = ".".join(step.name for step in self.steps)
        return f"{self.rpc.descriptor.name}.{path}-{self.what}"

    def request(self) -> Message:
        message = self.rpc.request_class()
        at: Any = message
        for step in self.steps[:-1]:
            at = getattr(at, step.name).add() if step.is_repeated else getattr(at, step.name)
            at.SetInParent()
        complete(message)
        field = self.steps[-1]
        if _is_map(field) and field.message_type.fields_by_name["value"].message_type:
            for key in self.value:
                getattr(at, field.name).get_or_create(key)
        elif _is_map(field):
            getattr(at, field.name).update(self.value)
        elif _is_mask(field):
            getattr(at, field.name).paths[:] = self.value
        elif field.is_repeated:
            del getattr(at, field.name)[:]
            getattr(at, field.name).extend(self.value)
        elif isinstance(self.value, Message):
            getattr(at, field.name).CopyFrom(self.value)
        elif field.message_type is not None:
            getattr(at, field.name).FromNanoseconds(round(self.value * 1e9))
        else:
            setattr(at, field.name, self.value)
        return message


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_mask(field: Any) -> bool:
    return field.message_type is not None and field.message_type.name == "FieldMask"


def outside(field: Any, limit: Limit) -> Iterator[tuple[str, Any]]:
    """Values just outside a limit, as the field takes them."""
    whole = field.cpp_type not in (
        FieldDescriptor.CPPTYPE_DOUBLE,
        FieldDescriptor.CPPTYPE_FLOAT,
    )
    step = 1 if whole and field.message_type is None else 0.0001

    def number(value: float) -> Any:
        value = int(value) if whole and field.message_type is None else value
        return [value] if field.is_repeated else value

    if limit.maximum is not None:
        yield "maximum", number(limit.maximum + step * (limit.multiple_of or 1))
    unsigned = field.cpp_type in (
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    )
    if limit.minimum is not None and not (unsigned and limit.minimum == 0):
        yield "minimum", number(limit.minimum - step * (limit.multiple_of or 1))
    if limit.multiple_of is not None and limit.minimum is not None:
        yield "grid", number(limit.minimum + 1)
    if limit.max_characters is not None:
        text = "a" * (limit.max_characters + 1)
        if _is_map(field):
            yield "characters", {"a": text}
        else:
            yield "characters", [text] if field.is_repeated else text
    if limit.max_bytes is not None and field.message_type is None:
        yield "bytes", b"a" * (limit.max_bytes + 1)
    elif limit.max_bytes is not None:
        large = GetMessageClass(field.message_type)(description="a" * limit.max_bytes)
        yield "bytes", large
    if limit.max_elements is not None:
        many = limit.max_elements + 1
        if _is_map(field):
            text = (
                field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING
            )
            yield "elements", {f"k{number}": "v" if text else 1 for number in range(many)}
        elif _is_mask(field):
            yield "elements", ["a"] * many
        elif field.message_type is not None:
            element = GetMessageClass(field.message_type)()
            complete(element)
            yield "elements", [element] * many
        else:
            text_like = field.cpp_type == FieldDescriptor.CPPTYPE_STRING
            yield "elements", ["a" if text_like else 1] * many


def places(kind: Descriptor, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a request that has a limit, with those that lead to it."""
    for field in kind.fields:
        if field in steps:
            continue
        if f"{kind.name}.{field.name}" in LIMITS:
            yield (*steps, field)
        if field.message_type is not None and not _is_map(field):
            yield from places(field.message_type, (*steps, field))


def cases() -> Iterator[Case]:
    made: dict[str, list[tuple[str, Any]]] = {}  # some are of megabytes, and have many places
    for rpc in EVERY_RPC:
        for steps in places(rpc.descriptor.input_type):
            field = steps[-1]
            name = f"{field.containing_type.name}.{field.name}"
            if name not in made:
                made[name] = list(outside(field, LIMITS[name]))
            for what, value in made[name]:
                yield Case(rpc, steps, what, value)


CASES = {case.name: case for case in cases()}
# Of a model that is sent back whole, only what may be changed is looked at.
_CHANGED = ("model_id", "name", "description", "tags", "trigger_words")
for _name in [name for name in CASES if name.startswith("UpdateModel.model.")]:
    if not _name.removeprefix("UpdateModel.model.").startswith(_CHANGED):
        del CASES[_name]
# A workflow is judged in one way, whichever call it comes with: its steps are tried with two.
_ONCE = ("UpdateWorkflow.workflow.steps.", "ValidateWorkflow.workflow.steps.")
for _name in [name for name in CASES if name.startswith(_ONCE)]:
    del CASES[_name]
# Only the second message of a stream can hold it; the last test sends it.
IN_MID_STREAM = [
    CASES.pop(name) for name in ("WriteAllocation.data-bytes", "UploadArtifact.data-bytes")
]
# Answers that are messages, not errors: limits of these are the server's own to keep.
SENT_BY_CLIENTS = {
    f"{steps[-1].containing_type.name}.{steps[-1].name}"
    for rpc in EVERY_RPC
    for steps in places(rpc.descriptor.input_type)
}


def named(refusal: Refusal, case: Case) -> bool:
    """Whether a refusal names the field; a list's element counts as the list, a mask's paths
    as the mask."""
    path = ".".join(step.name for step in case.steps)
    if _is_mask(case.steps[-1]):
        path += ".paths"
    return path in {_plain(field) for field in refusal.fields}


def _plain(path: str) -> str:
    return ".".join(part.partition("[")[0] for part in path.split("."))


async def ask(client: Client, case: Case) -> Refusal:
    """What a case is told; broken rules that come as data count as a refusal."""
    told = await case.rpc.call(client.channel, client.metadata[0][1][7:], case.request())
    if told.code is grpc.StatusCode.OK and case.rpc.descriptor.name == "ValidateWorkflow":
        found = await client.processing.ValidateWorkflow(
            case.request(), metadata=client.metadata
        )
        fields = [each.field for each in found.violations]
        return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "", fields=fields)
    if case.rpc.descriptor.name != "ValidateGeneration" or told.code is not grpc.StatusCode.OK:
        return told
    verdict = await client.inference.ValidateGeneration(
        case.request(), metadata=client.metadata
    )
    if verdict.failure.reason:
        failure = REASONS.from_proto(verdict.failure.reason, Reason.INTERNAL)
        return Refusal(CODES[verdict.failure.status_code], verdict.failure.message, failure)
    fields = [f"request.{each.field}" for each in verdict.violations]
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "", fields=fields)


def test_limits_of_requests_and_of_answers_are_all_there_are() -> None:
    answered = {field for field in LIMITS if field not in SENT_BY_CLIENTS}
    assert {field.partition(".")[0] for field in answered} <= {
        *("DownloadArtifactResponse", "Failure", "Preview", "ImageChunk", "BatchItemStatus"),
        *("ValidateGenerationResponse", "VerifyImageResponse", "GetModelComponentsResponse"),
        *("ReadAllocationResponse", "RenewLeasesResponse", "ValidateWorkflowResponse"),
        *("ModelValidationReport", "RefreshReport", "Postprocessor", "WorkflowNeeds"),
        *("ByteFigure", "Artifact", "GetThumbnailResponse"),
    }
    assert len(CASES) > 300


@pytest.mark.parametrize("rpc", sorted({case.rpc.descriptor.name for case in CASES.values()}))
async def test_what_is_outside_a_limit_is_refused_and_named(
    rpc: str, server: RunningServer
) -> None:
    async with server.client() as client:
        wrong = {
            name: told
            for name, case in CASES.items()
            if case.rpc.descriptor.name == rpc
            for told in [await ask(client, case)]
            if not kept(told, case)
        }
    assert wrong == {}


def kept(told: Refusal, case: Case) -> bool:
    """Whether the answer keeps the limit: it names the field, or does not do it yet."""
    if told.code is grpc.StatusCode.UNIMPLEMENTED:
        return told.reason == "NOT_BUILT"
    return told.code is grpc.StatusCode.INVALID_ARGUMENT and named(told, case)


@pytest.mark.parametrize("case", IN_MID_STREAM, ids=lambda case: case.name)
async def test_data_of_a_stream_is_refused_and_named(case: Case, server: RunningServer) -> None:
    begin = case.rpc.request_class()
    complete(begin)
    header: Any = begin.header
    header.upload.upload_id, header.upload.size_bytes = str(uuid.uuid4()), 4 * MIB
    async with server.client() as client:
        allocation = await lend(client, HOST, 4 * MIB)
        if case.rpc.descriptor.name == "WriteAllocation":
            header.allocation_id = allocation
        told = await case.rpc.call(client.channel, server.token, begin, case.request())
        await free(client, allocation)
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert named(told, case)
