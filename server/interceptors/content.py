"""Finds what no request may hold, whatever the method: numbers that are not finite, enum
values and fields that this version does not know.

All of them pass through protobuf unseen and come out as wrong pictures or wrong choices, so
they are refused once for all, before any servicer reads the request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from domains.errors import FieldViolation, Reason

_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_MOST_UNKNOWN = 3  # of one message
_PAUSE_EVERY = 200  # messages within the message: about two milliseconds

Found = Iterator[FieldViolation | None]


def unfit(request: Message) -> Found:
    """NON_FINITE_NUMBER, ENUM_VALUE_UNKNOWN and UNKNOWN_FIELD of one message, by field.

    None stands between pieces of the work, where others can get their turn. How long the
    lists are has been judged before.
    """
    return _unfit(request, "")


def _unfit(message: Message, path: str) -> Found:
    unknowns = UnknownFieldSet(message)
    for position in range(min(len(unknowns), _MOST_UNKNOWN)):
        yield FieldViolation(
            path.rstrip(".") or message.DESCRIPTOR.name,
            Reason.UNKNOWN_FIELD,
            f"Field number {unknowns[position].field_number} of {message.DESCRIPTOR.name} is "
            "not known to this server, which is older than its client or another program; "
            "leave it out, or update the server.",
        )
    for field, value in message.ListFields():
        where = f"{path}{field.name}"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if _is_map(field):
                yield from _unfit_map(field, value, where)
            elif field.is_repeated:
                for position, item in enumerate(value):
                    if position % _PAUSE_EVERY == 0:
                        yield None
                    yield from _unfit(item, f"{where}[{position}].")
            else:
                yield from _unfit(value, f"{where}.")
        elif field.type in _FLOATS or field.type == FieldDescriptor.TYPE_ENUM:
            items = enumerate(value) if field.is_repeated else ((None, value),)
            for place, item in items:
                yield from _unfit_scalar(
                    field, item, where if place is None else f"{where}[{place}]"
                )


def _unfit_map(field: Any, entries: Any, where: str) -> Found:
    value_field = field.message_type.fields_by_name["value"]
    if value_field.type == FieldDescriptor.TYPE_MESSAGE:
        for key in entries:
            yield from _unfit(entries[key], f"{where}[{key!r}].")
    elif value_field.type in _FLOATS or value_field.type == FieldDescriptor.TYPE_ENUM:
        for key, item in entries.items():
            yield from _unfit_scalar(value_field, item, f"{where}[{key!r}]")


def _unfit_scalar(field: Any, value: float, where: str) -> Iterator[FieldViolation]:
    if field.type == FieldDescriptor.TYPE_ENUM:
        if value not in field.enum_type.values_by_number:
            names = ", ".join(each.name for each in field.enum_type.values if each.number)
            yield FieldViolation(
                where, Reason.ENUM_VALUE_UNKNOWN, f"{value} is unknown; known are {names}."
            )
    elif not math.isfinite(value):
        yield FieldViolation(where, Reason.NON_FINITE_NUMBER, "Must be a finite number.")


def _is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)
