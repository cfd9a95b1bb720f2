"""Counts what a message holds before it is parsed, so that no list costs more than its limit.

A list that is too long is found at its first element too many, whatever else the message
holds: neither memory nor time is spent on the rest. The limits are those of the contract's
table; a repeated field of the contract that has none cannot be served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.limits import LIMITS

FIELDS_AT_ONCE = 2_000
"""Fields that are counted before others get their turn: about two milliseconds."""

_CONTRACT = "deviceops."
# A field that holds one value comes once; parsers accept it several times, the last wins.
_MOST_REPETITIONS = 16
# Of fields that this version does not know, in one message: a newer client may send some.
_MOST_UNKNOWN = 1_000
_MASK = "google.protobuf.FieldMask"
_MOST_FOREIGN = 1_000  # elements of a list that is not the contract's
_DEEPEST = 64
_LONGEST_VARINT = 10
_CONTINUED = bytes(range(0x80, 0x100))  # bytes of a varint that is not over
_UNKNOWN = 0  # no field has this number

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_WIDTHS = {
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_DOUBLE: 8,
}
_NEVER_PACKED = (
    FieldDescriptor.TYPE_MESSAGE,
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
)


class NotAMessage(Exception):
    """The bytes cannot be a message of the type."""


@dataclass(frozen=True, slots=True)
class _Field:
    """What is known of a field: how often it may come, and what an element is.

    `width` is the bytes of a packed element, 0 for a varint, -1 where none is packed.
    """

    name: str
    most: int
    repeated: bool
    width: int
    message: Descriptor | None
    most_inside: int


@dataclass(slots=True)
class _Level:
    """A message within the message: where it ends, and what of it has come so far.

    `merged` has the levels of its single messages: one that comes in several pieces is
    one message, as parsers see it.
    """

    end: int
    fields: dict[int, _Field]
    above: _Level | None
    step: str
    depth: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    merged: dict[int, _Level] = field(default_factory=dict)


def counted(data: bytes, kind: Descriptor, slack: int = 1) -> Iterator[None]:
    """Count what `data`, a message of that type, holds; pauses every `FIELDS_AT_ONCE`.

    Args:
        data: The message as it came.
        kind: Its type.
        slack: How many times its limit a list may have, where more than its limit is
            not an error of the call.

    Raises:
        InvalidArgument: TOO_MANY_ELEMENTS, naming the list.
        NotAMessage: No parser would take the bytes.
    """
    position, steps = 0, 0
    level = _Level(len(data), fields_of(kind), None, "")
    while True:
        while position >= level.end:
            if position > level.end:
                raise NotAMessage
            if level.above is None:
                return
            level = level.above
        steps += 1
        if steps % FIELDS_AT_ONCE == 0:
            yield
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        known = level.fields.get(number)
        start = position
        if wire == _BYTES:
            length, start = _varint(data, position)
            position = start + length
        elif wire == _VARINT:
            _, position = _varint(data, position)
        elif wire == _FIXED64:
            position += 8
        elif wire == _FIXED32:
            position += 4
        else:  # Groups, which this syntax does not have.
            raise NotAMessage
        if position > level.end:
            raise NotAMessage
        if known is None:
            _add(level, _UNKNOWN, 1, _MOST_UNKNOWN, "")
            continue
        elements = 1
        most = known.most * slack if known.repeated else known.most
        if wire == _BYTES and known.width >= 0:
            elements = _packed(data, start, position, known.width, most)
        _add(level, number, elements, most, known.name)
        if known.message is not None and wire == _BYTES:
            level = _below(level, number, known, position)
            position = start


def _below(level: _Level, number: int, known: _Field, end: int) -> _Level:
    """The message that begins here; a single one goes on where it was."""
    assert known.message is not None
    if not known.repeated and number in level.merged:
        again = level.merged[number]
        again.end = end
        return again
    step = f"{known.name}[{level.counts[number] - 1}]" if known.repeated else known.name
    depth = level.depth + 1
    if depth > _DEEPEST:
        raise NotAMessage
    fields = fields_of(known.message, known.most_inside)
    below = _Level(end, fields, level, step, depth)
    if not known.repeated:
        level.merged[number] = below
    return below


def _add(level: _Level, number: int, elements: int, most: int, name: str) -> None:
    count = level.counts.get(number, 0) + elements
    level.counts[number] = count
    if count > most:
        path = [name] if name else []
        at: _Level | None = level
        while at is not None:
            path.insert(0, at.step)
            at = at.above
        where = ".".join(step for step in path if step) or "message"
        rule = f"Must have at most {most} elements, and has more."
        raise InvalidArgument.of(FieldViolation(where, Reason.TOO_MANY_ELEMENTS, rule))


def _packed(data: bytes, start: int, end: int, width: int, most: int) -> int:
    """Elements in a packed list; of one that is far too long, at least one too many."""
    if width:
        return (end - start) // width
    enough = data[start : min(end, start + (most + 1) * _LONGEST_VARINT)]
    return len(enough.translate(None, _CONTINUED))


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number and where it ends; a byte past the end of the data is refused."""
    try:
        byte = data[position]
        position += 1
        if byte < 0x80:
            return byte, position
        value, shift = byte & 0x7F, 7
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                raise NotAMessage
    except IndexError:
        raise NotAMessage from None


@cache
def fields_of(kind: Descriptor, most_inside: int = _MOST_FOREIGN) -> dict[int, _Field]:
    """What is known of a type's fields, by their numbers.

    Args:
        kind: The type.
        most_inside: Most elements of its lists, where it is not the contract's.

    Raises:
        LookupError: A list of the contract has no limit.
    """
    return {each.number: _field(kind, each, most_inside) for each in kind.fields}


def _field(kind: Descriptor, each: Any, most_inside: int) -> _Field:
    most = _MOST_REPETITIONS
    if each.is_repeated:
        most = most_inside
        if kind.full_name.startswith(_CONTRACT):
            limit = LIMITS[f"{kind.name}.{each.name}"].max_elements
            if limit is None:
                raise LookupError(f"{kind.full_name}.{each.name} has no limit")
            most = limit
    packable = each.is_repeated and each.type not in _NEVER_PACKED
    width = _FIXED_WIDTHS.get(each.type, 0) if packable else -1
    inside = _MOST_FOREIGN
    if each.message_type is not None and each.message_type.full_name == _MASK:
        # A mask is a list of names; its limit stands on the field that holds it.
        inside = LIMITS[f"{kind.name}.{each.name}"].max_elements or inside
    return _Field(each.name, most, each.is_repeated, width, each.message_type, inside)
