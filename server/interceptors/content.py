"""Refuses values no request may hold, whatever the method: numbers that are not finite
and enum values this version does not know.

Both pass through protobuf unseen and come out as wrong pictures or wrong choices, so
they are refused once for all, before any servicer reads the request.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from domains.errors import FieldViolation, InvalidArgument, Reason
from server.interceptors import Context, Handler, Interceptor, behaviour_of, with_behaviour

_MOST_VIOLATIONS = 100  # a client sees twenty and a count
_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


class ContentInterceptor(Interceptor):
    """Looks at every request message, streamed ones one by one."""

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)

        async def checked(request: Any, context: Context) -> Any:
            if isinstance(request, Message):
                refuse_unfit(request)
                return await inner(request, context)
            return await inner(_each_checked(request), context)

        return with_behaviour(handler, checked)


async def _each_checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        refuse_unfit(request)
        yield request


def refuse_unfit(request: Message) -> None:
    """Check one message.

    Raises:
        InvalidArgument: NON_FINITE_NUMBER or ENUM_VALUE_UNKNOWN, naming such fields.
    """
    violations = list(itertools.islice(_unfit(request, ""), _MOST_VIOLATIONS))
    if violations:
        raise InvalidArgument.of(*violations)


def _unfit(message: Message, path: str) -> Iterator[FieldViolation]:
    for field, value in message.ListFields():
        where = f"{path}{field.name}"
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if _is_map(field):
                yield from _unfit_map(field, value, where)
            elif field.is_repeated:
                for position, item in enumerate(value):
                    yield from _unfit(item, f"{where}[{position}].")
            else:
                yield from _unfit(value, f"{where}.")
        elif field.type in _FLOATS or field.type == FieldDescriptor.TYPE_ENUM:
            items = enumerate(value) if field.is_repeated else ((None, value),)
            for place, item in items:
                yield from _unfit_scalar(
                    field, item, where if place is None else f"{where}[{place}]"
                )


def _unfit_map(field: Any, entries: Any, where: str) -> Iterator[FieldViolation]:
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
