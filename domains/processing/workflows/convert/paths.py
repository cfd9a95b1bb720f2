"""Fields of a message by their path in text: what they take, and putting it there.

A path is names of fields with dots between them, and where a list is on the way the place of
an element that is there: `settings.loras[0].weight`. What is at its end takes values of the
kinds that flow between steps; a list takes any number, after those that it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from deviceops.v1 import common_pb2, workflow_pb2
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.processing.workflows.types import Target, ValueKind, WorkflowValue

_PART = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,63})(?:\[(?P<place>\d{1,4})\])?")
_IMAGE = common_pb2.InputImage.DESCRIPTOR.full_name
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_MODEL = ("model_id", "model_ids")
_ANY = frozenset(ValueKind)


@dataclass(frozen=True)
class Part:
    """A name of a path with the field that it is, and an element's place where it says one."""

    field: Any
    place: int | None = None
    key: str | None = None


class NoSuchInput(ValueError):
    """A path that leads nowhere; the text says why, for people."""


def parts_of(kind: Any, path: str) -> tuple[Part, ...]:
    """The fields of a path that begins in a message of a kind, a descriptor.

    Raises:
        NoSuchInput: It is no path, or no field has that name.
    """
    found: list[Part] = []
    names = path.split(".")
    for number, text in enumerate(names):
        if found and _is_map(found[-1].field) and found[-1].key is None:
            key = ".".join(names[number:])
            return (*found[:-1], Part(found[-1].field, key=key))
        match = _PART.fullmatch(text)
        if match is None:
            raise NoSuchInput("Must be names of fields with dots between them.")
        if kind is None:
            raise NoSuchInput(f"{found[-1].field.name} has no fields.")
        field = kind.fields_by_name.get(match["name"])
        if field is None:
            raise NoSuchInput(f"{kind.name} has no field {match['name']}.")
        place = None if match["place"] is None else int(match["place"])
        if place is not None and (not field.is_repeated or _is_map(field)):
            raise NoSuchInput(f"{field.name} is no list.")
        listed = field.is_repeated and place is None and not _is_map(field)
        if listed and number + 1 < len(names):
            raise NoSuchInput(f"{field.name} is a list: name an element, {field.name}[0].")
        found.append(Part(field, place))
        kind = field.message_type
    return tuple(found)


def target(work: Message, path: str) -> Target:
    """What the field at a path of a message takes.

    Raises:
        NoSuchInput: There is none, or it takes nothing that flows between steps; or the message
            has something that excludes it.
    """
    parts = parts_of(work.DESCRIPTOR, path)
    at: Message | None = work
    for part in parts:
        at = _entered(at, part)
    last = parts[-1]
    if last.key is not None:
        plain = _map_value(last.field).message_type is None
        return Target(frozenset({ValueKind.TEXT}) if plain else _ANY)
    if _is_map(last.field):
        raise NoSuchInput(f"{last.field.name} has names: bind one, {last.field.name}.NAME.")
    kinds, choices = _taken(last.field)
    return Target(kinds, last.field.is_repeated and last.place is None, choices)


def exclusions(work: Message, inputs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Paths of which another one excludes the field, since one of both can be set; with words
    for people."""
    chosen: dict[tuple[str, str], tuple[str, str]] = {}
    for path in inputs:
        try:
            parts = parts_of(work.DESCRIPTOR, path)
        except NoSuchInput:
            continue
        above = ""
        for part in parts:
            oneof = _oneof(part.field)
            if oneof is not None:
                first = chosen.setdefault((above, oneof.name), (part.field.name, path))
                if first[0] != part.field.name:
                    yield path, f"{part.field.name} excludes {first[0]}, which is bound too."
            above += f"{part.field.name}[{part.place}]."


def put(work: Message, path: str, values: Sequence[WorkflowValue]) -> None:
    """Set the field at a path, which `target` has found; a list gets them after its own.

    Raises:
        InvalidArgument: A value is none for this field: a number out of range, a name of no
            choice, or several pictures where one is taken. The violation's field is the path.
    """
    *way, last = parts_of(work.DESCRIPTOR, path)
    at: Any = work
    for part in way:
        at = getattr(at, part.field.name)
        if part.place is not None:
            at = at[part.place]
        else:
            at.SetInParent()
    flat = [each for value in values for each in _elements(value)]
    if last.key is not None:
        into = getattr(at, last.field.name)
        if _map_value(last.field).message_type is None:
            into[last.key] = str(flat[-1])
        else:
            _put_value(into[last.key], values)
        return
    if last.field.is_repeated and last.place is None:
        _extend(at, last.field, flat, path)
        return
    if len(flat) != 1:
        raise _wrong(path, Reason.FIELDS_CONFLICT, f"Takes one, and {len(flat)} are bound.")
    if last.field.message_type is not None:
        holder = getattr(at, last.field.name)
        (holder if last.place is None else holder[last.place]).CopyFrom(image(flat[0]))
        return
    try:
        plain = _plain(last.field, flat[0])
        if last.place is None:
            setattr(at, last.field.name, plain)
        else:
            getattr(at, last.field.name)[last.place] = plain
    except (ValueError, TypeError, OverflowError):
        raise _unfit(last.field, path) from None


def pictures(values: Iterable[WorkflowValue]) -> list[common_pb2.InputImage]:
    """All pictures among values, in their order."""
    return [image(each) for value in values for each in _elements(value)]


def image(picture: object) -> common_pb2.InputImage:
    """A picture as it flows between steps, as the contract names one."""
    if isinstance(picture, common_pb2.InputImage):
        return picture
    return common_pb2.InputImage(artifact_id=str(picture))


def value_message(value: WorkflowValue) -> workflow_pb2.WorkflowValue:
    """A value as the contract has it."""
    field = _VALUE_FIELDS[value.kind]
    result = workflow_pb2.WorkflowValue()
    if isinstance(value.value, tuple):
        result.images.SetInParent()
        result.images.images.extend(map(image, value.value))
    else:
        setattr(result, field, value.value)
    return result


_VALUE_FIELDS = {
    ValueKind.IMAGES: "images",
    ValueKind.TEXT: "text",
    ValueKind.NUMBER: "number",
    ValueKind.MODEL: "model_id",
    ValueKind.INTEGER: "integer",
    ValueKind.BOOL: "boolean",
    ValueKind.CHOICE: "choice",
}


def _put_value(into: workflow_pb2.WorkflowValue, values: Iterable[WorkflowValue]) -> None:
    for value in values:
        into.CopyFrom(value_message(value))


def _elements(value: WorkflowValue) -> tuple[object, ...]:
    return value.value if isinstance(value.value, tuple) else (value.value,)


def _extend(at: Any, field: Any, elements: list[object], path: str) -> None:
    into = getattr(at, field.name)
    if field.message_type is not None:
        into.extend(map(image, elements))
        return
    try:
        into.extend(_plain(field, each) for each in elements)
    except (ValueError, TypeError, OverflowError):
        raise _unfit(field, path) from None


def _plain(field: Any, value: object) -> object:
    if field.enum_type is not None:
        numbers = {name: each.number for name, each in _choices(field.enum_type).items()}
        if value not in numbers:
            raise ValueError("no such choice")
        return numbers[str(value)]
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return float(value)  # type: ignore[arg-type]
    return value


def _entered(at: Message | None, part: Part) -> Message | None:
    """What stands in a message at a part of a path; None where nothing does."""
    field = part.field
    oneof = _oneof(field)
    chosen = None if at is None or oneof is None else at.WhichOneof(oneof.name)
    if chosen is not None and chosen != field.name:
        raise NoSuchInput(f"{field.name} excludes {chosen}, which the step sets.")
    if part.place is not None:
        held = [] if at is None else getattr(at, field.name)
        if part.place >= len(held):
            raise NoSuchInput(f"{field.name} has no element {part.place}.")
        return held[part.place] if field.message_type is not None else None
    if at is None or field.message_type is None or field.is_repeated:
        return None
    return getattr(at, field.name) if at.HasField(field.name) else None


def _taken(field: Any) -> tuple[frozenset[ValueKind], tuple[str, ...]]:
    """The kinds of values that a field takes, and the names of a choice."""
    if field.message_type is not None:
        if field.message_type.full_name != _IMAGE:
            raise NoSuchInput(f"{field.name} has fields of its own: bind one of them.")
        return frozenset({ValueKind.IMAGES}), ()
    if field.enum_type is not None:
        return frozenset({ValueKind.CHOICE}), tuple(_choices(field.enum_type))
    if field.type == FieldDescriptor.TYPE_BYTES:
        raise NoSuchInput(f"{field.name} takes bytes, which no binding gives.")
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        model = field.name.endswith(_MODEL)
        return frozenset({ValueKind.MODEL if model else ValueKind.TEXT}), ()
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return frozenset({ValueKind.BOOL}), ()
    if field.cpp_type in _INTEGERS:
        return frozenset({ValueKind.INTEGER}), ()
    return frozenset({ValueKind.NUMBER}), ()


def _choices(enum: Any) -> dict[str, Any]:
    """The values of an enum that mean something, by their names without prefix."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {each.name.removeprefix(prefix): each for each in enum.values if each.number}


def _oneof(field: Any) -> Any:
    """The group of which one can be set that a field is in; None where there is none."""
    oneof = field.containing_oneof
    return oneof if oneof is not None and len(oneof.fields) > 1 else None


def _map_value(field: Any) -> Any:
    """What a map has under each name."""
    return field.message_type.fields_by_name["value"]


def _is_map(field: Any) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _unfit(field: Any, path: str) -> InvalidArgument:
    if field.enum_type is not None:
        names = ", ".join(_choices(field.enum_type))
        return _wrong(path, Reason.ENUM_VALUE_UNKNOWN, f"Must be one of {names}.")
    return _wrong(path, Reason.FIELD_OUT_OF_RANGE, "The number does not fit the field.")


def _wrong(path: str, reason: Reason, rule: str) -> InvalidArgument:
    return InvalidArgument.of(FieldViolation(path, reason, rule))
