"""Finds what no request may hold or lack, whatever the method: numbers that are not finite,
enum values and fields that this version does not know, required fields that are not set.

Protobuf lets all of them through, and they come out as wrong pictures or wrong choices, so
they are refused once for all, before any servicer reads the request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS
from domains.required_fields import REQUIRED

_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_MOST_UNKNOWN = 3  # of one message
_PAUSE_EVERY = 200  # messages within the message: about two milliseconds

Found = Iterator[FieldViolation | None]


def unfit(request: Message, *, whole: bool = True) -> Found:
    """What is wrong with one message whatever its method, by field.

    UNKNOWN_FIELD, NON_FINITE_NUMBER, ENUM_VALUE_UNKNOWN, and REQUIRED_FIELD_MISSING unless the
    message need not be `whole`. What a binding of a workflow fills need not be set. None stands
    between pieces of the work, where others can get their turn. How long the lists are has been
    judged before.
    """
    return _unfit(request, "", whole, frozenset())


def _unfit(message: Message, path: str, whole: bool, filled: frozenset[str]) -> Found:
    yield from _unknown(message, path)
    fields = message.ListFields()
    if message.DESCRIPTOR.name == "WorkflowStep":
        filled = frozenset(_filled(message, path))
    if whole:
        there = {field.name for field, _ in fields}
        yield from _missing(message, path, there, filled)
    for field, value in fields:
        where = f"{path}{field.name}"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if _is_map(field):
                yield from _unfit_map(field, value, where, whole)
            elif field.is_repeated:
                for position, item in enumerate(value):
                    if position % _PAUSE_EVERY == 0:
                        yield None
                    yield from _unfit(item, f"{where}[{position}].", whole, filled)
            else:
                yield from _unfit(value, f"{where}.", whole, filled)
        elif field.type in _FLOATS or field.type == FieldDescriptor.TYPE_ENUM:
            items = enumerate(value) if field.is_repeated else ((None, value),)
            for place, item in items:
                yield from _unfit_scalar(
                    field, item, where if place is None else f"{where}[{place}]"
                )


def _unfit_map(field: Any, entries: Any, where: str, whole: bool) -> Found:
    value_field = field.message_type.fields_by_name["value"]
    if value_field.type == FieldDescriptor.TYPE_MESSAGE:
        for key in entries:
            yield from _unfit(entries[key], f"{where}[{key!r}].", whole, frozenset())
    elif value_field.type in _FLOATS or value_field.type == FieldDescriptor.TYPE_ENUM:
        for key, item in entries.items():
            yield from _unfit_scalar(value_field, item, f"{where}[{key!r}]")


def _unknown(message: Message, path: str) -> Iterator[FieldViolation]:
    unknowns = UnknownFieldSet(message)
    for position in range(min(len(unknowns), _MOST_UNKNOWN)):
        yield FieldViolation(
            path.rstrip(".") or message.DESCRIPTOR.name,
            Reason.UNKNOWN_FIELD,
            f"Field number {unknowns[position].field_number} of {message.DESCRIPTOR.name} is "
            "not known to this server, which is older than its client or another program; "
            "leave it out, or update the server.",
        )


def _filled(step: Any, path: str) -> Iterator[str]:
    """Where the bindings of a step put what they give."""
    for binding in step.bindings:
        yield f"{path}{step.WhichOneof('work')}.{binding.input}"


def _missing(message: Message, path: str, there: set[str], filled: frozenset[str]) -> Found:
    kind = message.DESCRIPTOR.name
    for name in REQUIRED.get(kind, ()):
        if name not in there and f"{path}{name}" not in filled:
            yield checks.required(f"{path}{name}", None, LIMITS[f"{kind}.{name}"])


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
