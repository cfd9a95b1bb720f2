"""Any field of a request by its path: `guidance.start=0.2`, `control_nets.0.guess_mode=yes`.

What has no option of its own is reached so, also what the contract gains later: paths, types
and names come from the contract's own description.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from deviceops.v1 import common_pb2
from server.cli.choices import UnusableOptions

_YES, _NO = frozenset({"yes", "true", "on", "1"}), frozenset({"no", "false", "off", "0"})
_WHOLE = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_BROKEN = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})
Picture = Callable[[str], common_pb2.InputImage]


def set_field(message: Message, assignment: str, picture: Picture) -> None:
    """Set the field of `message` that `PATH=VALUE` names.

    Elements of lists go by their number, from 0, each in turn; a list of plain values takes
    them separated by commas. Enum values go by the last part of their names.

    Args:
        message: Is changed.
        assignment: What a person wrote.
        picture: Makes a picture of a file's path or an artifact's id.

    Raises:
        UnusableOptions: There is no such field, or it cannot hold the value.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise UnusableOptions(f"--set: {assignment!r} is not PATH=VALUE")
    try:
        put(message, path, text, picture)
    except UnusableOptions as error:
        raise UnusableOptions(f"--set {path}: {error}") from error


def put(message: Message, path: str, text: str, picture: Picture) -> None:
    """Set the field of `message` at `path`, as `set_field` does.

    Raises:
        UnusableOptions: There is no such field, or it cannot hold the value; without the path.
    """
    try:
        _set(message, path.strip().split("."), text, picture)
    except UnusableOptions:
        raise
    except ValueError as error:  # a number or text that the field cannot hold
        raise UnusableOptions(str(error)) from error


def _set(message: Message, path: list[str], text: str, picture: Picture) -> None:
    name, *rest = path
    fields = message.DESCRIPTOR.fields_by_name
    field = fields.get(name)
    if field is None:
        raise UnusableOptions(
            f"{message.DESCRIPTOR.name} has no field {name!r}, only {', '.join(fields)}"
        )
    plain = field.message_type is None
    if plain and rest:
        raise UnusableOptions(f"{name} has no fields")
    if plain and field.is_repeated:
        values = [_value(field, each.strip()) for each in text.split(",")] if text else []
        message.ClearField(name)
        getattr(message, name).extend(values)
    elif plain:
        setattr(message, name, _value(field, text))
    else:
        inner = getattr(message, name)
        if field.is_repeated:
            inner, rest = _element(name, inner, rest), rest[1:]
        _set_message(inner, name, rest, text, picture)


def _set_message(
    inner: Message, name: str, rest: list[str], text: str, picture: Picture
) -> None:
    if rest:
        _set(inner, rest, text, picture)
    elif isinstance(inner, common_pb2.InputImage):
        inner.CopyFrom(picture(text))
    elif text:
        fields = ", ".join(inner.DESCRIPTOR.fields_by_name)
        raise UnusableOptions(f"{name} takes no value itself; name one of its fields: {fields}")
    else:
        inner.SetInParent()


def _element(name: str, elements: Any, rest: list[str]) -> Message:
    """The element that a path goes on with; the next one is new."""
    place = rest[0] if rest else ""
    if not place.isdecimal() or int(place) > len(elements):
        raise UnusableOptions(
            f"{name} is a list: go on with the number of an element, 0 to {len(elements)}"
        )
    if int(place) == len(elements):
        elements.add()
    element: Message = elements[int(place)]
    return element


def _value(field: Any, text: str) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if text.lower() not in _YES | _NO:
            raise UnusableOptions(f"{text!r} is neither yes nor no")
        return text.lower() in _YES
    if field.enum_type is not None:
        return _number(field.enum_type, text)
    if kind in _WHOLE:
        return _read(int, text, "whole number")
    if kind in _BROKEN:
        return _read(float, text, "number")
    return _content(text) if field.type == FieldDescriptor.TYPE_BYTES else text


def _content(path: str) -> bytes:
    """Bytes are given as the file that holds them."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnusableOptions(f"{path}: {error.strerror}") from error


def _read(kind: Callable[[str], Any], text: str, noun: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UnusableOptions(f"{text!r} is no {noun}") from None


def _number(enum: EnumDescriptor, word: str) -> int:
    """The value of an enum by its name, whole or without what all of its names begin with."""
    # Every enum's zero is its prefix and UNSPECIFIED.
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    plain = word.strip().upper().replace("-", "_")
    for name in (plain, prefix + plain):
        found = enum.values_by_name.get(name)
        if found is not None and found.number:
            return int(found.number)
    names = [each.name.removeprefix(prefix).lower() for each in enum.values if each.number]
    raise UnusableOptions(f"{word!r} is none of: {', '.join(names)}")
