"""Arbitrary messages of any class, drawn by its descriptor: whatever the wire can carry.

They are valid by type and nothing else: floats are NaN, integers as large as fit, enums
hold numbers nobody knows, texts hold control and direction-changing characters, masks name
fields that exist and fields that do not. Reuse `requests` to fuzz a server. `newer` are
those of a client that knows more fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

AnyMessage = TypeVar("AnyMessage", bound=Message)

_TEXT = st.one_of(
    st.sampled_from(
        ["", "\0", "\u202e", "../x", "con", "a\n", "\U0001f436", "e\u0301", "\ufeff", "x" * 300]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


def _integers(least: int, most: int) -> st.SearchStrategy[object]:
    edges = {least, most, most // 2 + 1, max(least, -1), 0, 1}
    return st.one_of(st.sampled_from(sorted(edges)), st.integers(least, most))


# A mask says which fields of another message are meant; nothing but the server checks it.
_PATHS = st.one_of(
    st.sampled_from(
        [
            "prompt",
            "loras",
            "image_to_image",
            "tags",
            "priority",
            "mode",
            "a.b",
            "",
            "*",
            "Prompt",
        ]
    ),
    _TEXT,
)
# Numbers of fields that no message of the contract has.
FIRST_UNKNOWN, LAST_UNKNOWN = 5000, 18999

_DOUBLES: st.SearchStrategy[object] = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308]), st.floats()
)
_SCALARS: dict[int, st.SearchStrategy[object]] = {
    FieldDescriptor.CPPTYPE_INT32: _integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: _integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: _integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: _integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: _DOUBLES,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}


@st.composite
def requests(draw: st.DrawFn, message_class: type[AnyMessage], *, depth: int = 4) -> AnyMessage:
    """One message of the class, some of its fields set, sub-messages `depth` levels deep."""
    message = message_class()
    if message.DESCRIPTOR.full_name == FieldMask.DESCRIPTOR.full_name:
        cast(FieldMask, message).paths.extend(draw(st.lists(_PATHS, max_size=3)))
        return message
    fields = [
        cast(FieldDescriptor, field)
        for field in message_class.DESCRIPTOR.fields
        if depth > 0 or field.message_type is None
    ]
    if not fields:
        return message
    for field in draw(st.lists(st.sampled_from(fields), unique_by=lambda f: f.number)):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(draw, message, field, depth)
        elif field.is_repeated:
            values = draw(st.lists(_value(field, depth), max_size=3))
            getattr(message, field.name).extend(values)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(_value(field, depth)))
        else:
            setattr(message, field.name, draw(_value(field, depth)))
    return message


@st.composite
def newer(draw: st.DrawFn, message_class: type[AnyMessage]) -> tuple[AnyMessage, int]:
    """A message with one field that the contract does not have, and that field's number.

    The field stands in the message itself or in one of the messages in it.
    """
    message = draw(requests(message_class))
    number = draw(st.integers(FIRST_UNKNOWN, LAST_UNKNOWN))
    holder = draw(st.sampled_from([message, *_within(message)]))
    field = draw(
        st.sampled_from(
            [
                _varint(number << 3) + b"\x01",
                _varint(number << 3 | 2) + b"\x02hi",
                _varint(number << 3 | 1) + b"\0" * 8,
            ]
        )
    )
    holder.MergeFromString(field)
    return message, number


def _within(message: Message) -> Iterator[Message]:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else [value]:
            yield inner
            yield from _within(inner)


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _fill_map(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    entry = cast(Descriptor, field.message_type)
    keys, values = entry.fields_by_name["key"], entry.fields_by_name["value"]
    drawn = draw(st.dictionaries(_value(keys, depth), _value(values, depth), max_size=3))
    target = getattr(message, field.name)
    for key, value in drawn.items():
        if values.message_type is not None:
            target[key].CopyFrom(value)
        else:
            target[key] = value


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[object]:
    if field.message_type is not None:
        return requests(GetMessageClass(field.message_type), depth=depth - 1)
    if field.enum_type is not None:
        known = [value.number for value in field.enum_type.values]
        return st.one_of(st.sampled_from(known), st.sampled_from([-1, 999, 2**31 - 1]))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=64)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _TEXT
    return _SCALARS[field.cpp_type]
