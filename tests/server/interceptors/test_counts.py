"""Every list that a request can hold is counted before it is parsed, whatever is in it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default

from deviceops.v1 import batch_pb2, inference_pb2, model_pb2, workflow_pb2
from domains.errors import InvalidArgument, Reason
from domains.limits import LIMITS
from server.app import SERVICE_NAMES
from server.interceptors.counts import FIELDS_AT_ONCE, NotAMessage, counted

METHODS: list[MethodDescriptor] = [
    method
    for service in SERVICE_NAMES
    for method in Default().FindServiceByName(service).methods
]


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def lengthy(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


@dataclass(frozen=True)
class Listed:
    """A list somewhere in a request, with the fields that lead to it."""

    request: Descriptor
    steps: tuple[Any, ...]

    @property
    def name(self) -> str:
        path = ".".join(step.name for step in self.steps)
        return f"{self.request.name}.{path}"

    @property
    def limit(self) -> int:
        field = self.steps[-1]
        if field.containing_type.full_name == "google.protobuf.FieldMask":
            field = self.steps[-2]
        most = LIMITS[f"{field.containing_type.name}.{field.name}"].max_elements
        assert most is not None
        return most

    def holding(self, count: int, *, packed: bool = False) -> bytes:
        """The request's bytes with so many elements in the list."""
        field = self.steps[-1]
        if packed:
            data = lengthy(field.number, element_of(field) * count)
        elif field.type in (
            FieldDescriptor.TYPE_STRING,
            FieldDescriptor.TYPE_BYTES,
            FieldDescriptor.TYPE_MESSAGE,
        ):
            data = lengthy(field.number, b"") * count
        else:
            wire = {8: 1, 4: 5}.get(len(element_of(field)), 0)
            data = (varint(field.number << 3 | wire) + element_of(field)) * count
        for step in reversed(self.steps[:-1]):
            data = lengthy(step.number, data)
        return data

    @property
    def packable(self) -> bool:
        return self.steps[-1].is_packed


def element_of(field: Any) -> bytes:
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64):
        return b"\0" * 8
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32):
        return b"\0" * 4
    return b"\x01"


def lists_of(kind: Descriptor, steps: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for field in kind.fields:
        if field in steps:
            continue  # a message within itself has been looked at
        if field.is_repeated:
            yield (*steps, field)
        if field.message_type is not None:
            yield from lists_of(field.message_type, (*steps, field))


LISTS = {
    listed.name: listed
    for method in METHODS
    for steps in lists_of(method.input_type)
    for listed in [Listed(method.input_type, steps)]
}


def refusal(data: bytes, kind: Descriptor) -> Any:
    with pytest.raises(InvalidArgument) as caught:
        list(counted(data, kind))
    (violation,) = caught.value.violations
    return violation


def test_there_are_lists_of_every_sort() -> None:
    assert len(LISTS) > 100
    assert {"ListSessionsRequest.filter.states", "GenerateRequest.settings.seeds"} <= set(LISTS)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_one_element_too_many_is_refused_and_named(name: str) -> None:
    listed = LISTS[name]
    forms = (False, True) if listed.packable else (False,)
    for packed in forms:
        assert list(counted(listed.holding(listed.limit, packed=packed), listed.request)) == []
        violation = refusal(listed.holding(listed.limit + 1, packed=packed), listed.request)
        named = [step.split("[")[0] for step in violation.field.split(".")]
        assert named == [step.name for step in listed.steps]
        assert violation.reason is Reason.TOO_MANY_ELEMENTS
        assert str(listed.limit) in violation.description


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_flood_costs_no_more_than_its_first_elements(name: str) -> None:
    """Four megabytes of it are given up before the first pause."""
    listed = LISTS[name]
    flood = listed.holding(1_000_000)
    pauses = iter(range(10**6))
    with pytest.raises(InvalidArgument):
        list(zip(counted(flood, listed.request), pauses, strict=False))
    assert next(pauses) <= listed.limit // FIELDS_AT_ONCE + 1


def test_a_message_in_pieces_is_counted_as_one() -> None:
    """Parsers merge them, and so would lists grow past their limits."""
    piece = LISTS["GenerateRequest.settings.loras"].holding(40)
    kind = inference_pb2.GenerateRequest.DESCRIPTOR
    assert list(counted(piece, kind)) == []
    assert refusal(piece + piece, kind).field == "settings.loras"
    merged = inference_pb2.GenerateRequest.FromString(piece + piece)
    assert len(merged.settings.loras) == 80


def test_elements_of_a_list_are_counted_apart() -> None:
    kind = workflow_pb2.CreateWorkflowRequest.DESCRIPTOR
    request = workflow_pb2.CreateWorkflowRequest()
    for _ in range(3):
        request.workflow.steps.add().after_step_ids.extend(["a"] * 60)
    assert list(counted(request.SerializeToString(), kind)) == []
    request.workflow.steps[1].after_step_ids.extend(["a"] * 5)
    violation = refusal(request.SerializeToString(), kind)
    assert violation.field == "workflow.steps[1].after_step_ids"


@pytest.mark.parametrize("repeated", [b"\x08\x01", b"\xf8\x7f\x01"], ids=["known", "unknown"])
def test_fields_that_come_again_and_again_are_refused(repeated: bytes) -> None:
    """Neither of a list nor known: what costs a parser little would cost the count much."""
    kind = model_pb2.ListModelsRequest.DESCRIPTOR
    assert list(counted(repeated * 10, kind)) == []
    assert refusal(repeated * 100_000, kind).reason is Reason.TOO_MANY_ELEMENTS


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x22",
        b"\x22\x05a",
        b"\x22" + b"\xff" * 11,
        b"\x0b\x0c",
        b"\x09\x01",
        b"\x0d\x01",
        b"\x0f",
    ],
)
def test_what_no_parser_takes_is_no_message(data: bytes) -> None:
    with pytest.raises(NotAMessage):
        list(counted(data, model_pb2.ListModelsRequest.DESCRIPTOR))


def test_long_messages_are_counted_in_pieces() -> None:
    kind = batch_pb2.CreateBatchRequest.DESCRIPTOR
    request = batch_pb2.CreateBatchRequest()
    for _ in range(1000):
        overlay = request.items.add(item_id="x").overlay
        overlay.settings.loras.add(model_id="a", weight=1)
    assert len(list(counted(request.SerializeToString(), kind))) >= 2


@pytest.mark.parametrize("seed", range(20))
def test_no_bytes_break_it(seed: int) -> None:
    chance = random.Random(seed)
    good = inference_pb2.GenerateRequest()
    good.settings.loras.add(model_id="a", weight=1)
    good.settings.seeds.extend([1, 2, 3])
    good.options.metadata["a"] = "b"
    for _ in range(200):
        data = bytearray(good.SerializeToString())
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(NotAMessage, InvalidArgument):
            list(counted(bytes(data), inference_pb2.GenerateRequest.DESCRIPTOR))
