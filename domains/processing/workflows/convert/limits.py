"""The limits that the contract states, held against a whole message: a workflow is kept long
before the services of its steps see what they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from domains import checks
from domains.conversions import seconds
from domains.errors import FieldViolation
from domains.limits import LIMITS, Limit
from domains.required_fields import REQUIRED

_NUMBERS = {
    FieldDescriptor.CPPTYPE_DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
# One line each; other texts are prompts.
_LINES = frozenset(
    {
        *("Workflow.description", "WorkflowParameter.description"),
        *("WorkflowParameter.choices", "WorkflowValue.choice", "StoreWork.labels"),
    }
)


# What these say is checked where sessions are begun.
_NOT_HERE = ("options", "delivery")


def check_limits(message: Message, path: str = "") -> Iterator[FieldViolation]:
    """Every limit of its fields that a message, or one within it, does not keep; `path` is
    where it stands in the request, empty for the request itself."""
    for field, value in message.ListFields():
        if field.name in _NOT_HERE:
            continue
        where = f"{path}.{field.name}" if path else field.name
        name = f"{message.DESCRIPTOR.name}.{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from _kept(checks.elements(where, len(value), LIMITS.get(name, Limit(name))))
            of = field.message_type.fields_by_name["value"]
            for key in value:
                if of.message_type is not None:
                    yield from check_limits(value[key], f"{where}[{key!r}]")
                elif name in LIMITS:
                    yield from _kept(checks.name(where, key))
                    yield from _kept(_check(where, value[key], LIMITS[name], of))
            continue
        if field.is_repeated:
            yield from _kept(checks.elements(where, len(value), LIMITS.get(name, Limit(name))))
            values = [(f"{where}[{place}]", each) for place, each in enumerate(value)]
        else:
            values = [(where, value)]
        for at, each in values:
            if name in LIMITS:
                yield from _kept(_check(at, each, LIMITS[name], field))
            if isinstance(each, Message):
                yield from check_limits(each, at)


def check_required(message: Message, path: str = "") -> Iterator[FieldViolation]:
    """Every field that must be set and is not, in a message or one within it."""
    kind = message.DESCRIPTOR.name
    fields = {field.name: value for field, value in message.ListFields()}
    for name in REQUIRED.get(kind, ()):
        if name not in fields:
            yield from _kept(checks.required(path + name, None, LIMITS[f"{kind}.{name}"]))
    for name, value in fields.items():
        if isinstance(value, Message):
            yield from check_required(value, f"{path}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            for place, each in enumerate(value):
                if isinstance(each, Message):
                    yield from check_required(each, f"{path}{name}[{place}].")


def _check(path: str, value: Any, limit: Limit, field: Any) -> FieldViolation | None:
    if isinstance(value, Duration):
        return checks.number(path, seconds(value), limit)
    if isinstance(value, FieldMask):
        return checks.elements(f"{path}.paths", len(value.paths), limit)
    if isinstance(value, bytes):
        return checks.size(path, len(value), limit)
    if isinstance(value, str):
        check = checks.line if limit.field in _LINES else checks.prose
        return check(path, value, limit)
    if field.cpp_type in _NUMBERS:
        return checks.number(path, value, limit)
    return None


def _kept(violation: FieldViolation | None) -> Iterator[FieldViolation]:
    if violation is not None:
        yield violation
