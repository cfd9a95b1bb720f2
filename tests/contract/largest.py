"""The largest legal messages, built by descriptor out of the limits that comments state.

What a comment does not bound is bounded by the rules of common.proto: names, ids and keys
are ASCII of at most 127 characters, other texts have at most 1000. A list without a limit is
`Unbounded` unless its answer pages: pages are cut by the code that cuts them in the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from domains.paging import MAX_PAGE_SIZE, paginate
from tests.contract import protos
from tests.contract.stated import documented

MESSAGE_BYTES = 4 * 2**20
INLINE_BYTES = 3 * 2**20
_NAME, _TEXT = 127, 1000
_WIDEST = "\U0001f436"  # four bytes
_NAMED = re.compile(
    r"(^|_)(id|ids|aliases|sha256|token|owner|client_name|cancelled_by|method)$"
)
# What is left out of a field's message where its comment says so, by the message's path.
_LEFT_OUT = {
    "GenerationFacts.effective_settings": {"InputImage.inline"},
    "ValidateGenerationResponse.effective_settings": {"InputImage.inline"},
    "GetSessionResponse.terminal_event": {"ImageResult"},
    "ListWorkflowsResponse.workflows": {"WorkflowStep", "WorkflowValue"},
}
# A session makes pictures or comes to a report, as SessionCompleted.report says.
_EITHER = {"SessionCompleted": ("report", ("images", "generation"))}
# Messages that are bounded as a whole where they come in; the server adds its own fields.
_WHOLE = {"Workflow": ("CreateWorkflowRequest.workflow", 1024)}
_EXACT: Mapping[str, Mapping[str, Any]] = {
    "google.protobuf.Timestamp": {"seconds": 253402300799, "nanos": 999999999},
    "google.protobuf.Duration": {"seconds": 315576000000, "nanos": 999999999},
    "google.rpc.BadRequest.FieldViolation": {
        "field": _WIDEST * 256,
        "reason": "R" * 63,
        "description": _WIDEST * _TEXT,
    },
}


class Unbounded(ValueError):
    """A list or bytes field of an answer that nothing bounds."""


class Largest:
    """Builds largest messages; `limits` are the numbers that comments state, by field."""

    def __init__(self, limits: Mapping[str, Mapping[str, float | None]]) -> None:
        self._limits = limits
        self._names = frozenset(
            field.name
            for field in protos.fields(protos.public())
            if _NAMED.search(field.proto.name) or re.search(r"\ba name\b", field.comment)
        )
        self._built: dict[tuple[str, frozenset[str]], Message] = {}

    def message(self, of: Descriptor, without: frozenset[str] = frozenset()) -> Message:
        """The largest message of that kind, with nothing in it of what `without` names.

        Raises:
            Unbounded: A list has no stated limit.
        """
        key = of.full_name, without
        if key not in self._built:
            self._built[key] = self._build(of, without)
        return self._built[key]

    def _build(self, of: Descriptor, without: frozenset[str]) -> Message:
        message = GetMessageClass(of)()
        if of.full_name in _EXACT:
            return GetMessageClass(of)(**_EXACT[of.full_name])
        if of.name in _WHOLE and "WorkflowStep" not in without:
            return self._padded(message, *_WHOLE[of.name])
        for field in of.fields:
            if field.containing_oneof is None or len(field.containing_oneof.fields) == 1:
                self._fill(message, field, without)
        for oneof in of.oneofs:
            self._choose(
                message,
                [lambda into, one=one: self._fill(into, one, without) for one in oneof.fields],
            )
        if of.name in _EITHER:
            report, others = _EITHER[of.name]
            self._choose(
                message,
                [
                    lambda into: into.ClearField(report),
                    lambda into: [into.ClearField(other) for other in others],
                ],
            )
        return message

    def _choose(self, message: Message, fillers: Iterable[Callable[[Any], object]]) -> None:
        """The message as the filler leaves it that makes it largest."""
        best = None
        for fill in fillers:
            candidate = type(message)()
            candidate.CopyFrom(message)
            fill(candidate)
            if best is None or candidate.ByteSize() > best.ByteSize():
                best = candidate
        if best is not None:
            message.CopyFrom(best)

    def _padded(self, message: Message, field: str, added: int) -> Message:
        size = int(self._limits[field]["max_bytes"] or 0) + added
        message.description = ""  # type: ignore[attr-defined]
        message.description = "x" * (size - 8)  # type: ignore[attr-defined]
        return message

    def _fill(self, message: Any, field: FieldDescriptor, without: frozenset[str]) -> None:
        name = f"{field.containing_type.name}.{field.name}"
        kind = field.message_type
        if name in without or (kind is not None and kind.name in without):
            return
        if name in _LEFT_OUT:
            without = without | _LEFT_OUT[name]
        if not field.is_repeated:
            value = self._value(name, field, without)
            if kind is None:
                setattr(message, field.name, value)
            else:
                getattr(message, field.name).CopyFrom(value)
            return
        if kind is not None and kind.GetOptions().map_entry:
            self._fill_map(getattr(message, field.name), name, kind, without)
            return
        one = self._value(name, field, without)
        getattr(message, field.name).extend(self._elements(name, field, one))

    def _elements(self, name: str, field: FieldDescriptor, one: Any) -> list[Any]:
        most = self._limits.get(name, {}).get("max_elements")
        if most is not None:
            return [one] * int(most)
        if "next_page_token" in field.containing_type.fields_by_name and field.message_type:
            everything = [one] * MAX_PAGE_SIZE
            page = paginate(everything, page_size=MAX_PAGE_SIZE, page_token="", scope="")
            return list(page.converted(lambda item: item).items)
        raise Unbounded(name)

    def _fill_map(
        self, target: Any, name: str, entry: Descriptor, without: frozenset[str]
    ) -> None:
        most = self._limits.get(name, {}).get("max_elements")
        if most is None:
            raise Unbounded(name)
        value = self._value(name, entry.fields_by_name["value"], without)
        for number in range(int(most)):
            key = str(number).rjust(_NAME, "k")
            if isinstance(value, Message):
                target[key].CopyFrom(value)
            else:
                target[key] = value

    def _value(self, name: str, field: FieldDescriptor, without: frozenset[str]) -> Any:
        limits = self._limits.get(name, {})
        if field.message_type is FieldMask.DESCRIPTOR:
            return FieldMask(paths=["n" * _NAME] * int(limits["max_elements"] or 0))
        if field.message_type is not None:
            return self.message(field.message_type, without)
        if field.enum_type is not None:
            return max(value.number for value in field.enum_type.values)
        if field.type == FieldDescriptor.TYPE_BYTES:
            if limits.get("max_bytes") is None:
                raise Unbounded(name)
            return b"x" * int(limits["max_bytes"] or 0)
        if field.type == FieldDescriptor.TYPE_STRING:
            longest = limits.get("max_characters")
            if name in self._names:
                return "n" * int(longest or _NAME)
            return _WIDEST * int(longest or _TEXT)
        return {
            FieldDescriptor.CPPTYPE_INT32: 2**31 - 1,
            FieldDescriptor.CPPTYPE_INT64: 2**63 - 1,
            FieldDescriptor.CPPTYPE_DOUBLE: 1.0,
            FieldDescriptor.CPPTYPE_BOOL: True,
        }[field.cpp_type]


@cache
def of_the_contract() -> Largest:
    """Built of the limits in the protos of now."""
    return Largest(documented(protos.public()))
