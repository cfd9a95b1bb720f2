"""A generation's settings from the JSON that this server writes into its pictures.

The JSON has the contract's names, so that what the contract gains is read without a line here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from deviceops.v1 import common_pb2, generation_pb2
from server.cli.choices import UnusableOptions

_VERSION = 3
_NOT_SETTINGS = frozenset({"format_version", "data_types"})
# What a setting says that leaves it to the model, the device or the server.
_LEFT_OPEN = frozenset({"model", "open", "server"})
_WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: 31,
    FieldDescriptor.CPPTYPE_UINT32: 32,
    FieldDescriptor.CPPTYPE_INT64: 63,
    FieldDescriptor.CPPTYPE_UINT64: 64,
}


def read_stated(text: str) -> tuple[generation_pb2.GenerationSettings, list[str]]:
    """The settings, and what of them could not be taken over, a sentence each.

    Raises:
        UnusableOptions: The text is not what this server writes; the message names the field.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise UnusableOptions("its settings are no JSON") from None
    if not isinstance(entries, dict) or entries.get("format_version") != _VERSION:
        raise UnusableOptions(
            f"its settings are not of the form {_VERSION}, which is read here"
        )
    settings = generation_pb2.GenerationSettings()
    stated = {name: each for name, each in entries.items() if name not in _NOT_SETTINGS}
    return settings, list(_fill(settings, stated, ""))


def _fill(message: Message, entries: dict[str, Any], path: str) -> Iterator[str]:
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in entries.items():
        if value is None:
            continue
        field, where = fields.get(name), f"{path}{name}"
        if field is None:
            yield f"{where} is not known here and left out."
        elif field.is_repeated:
            if not isinstance(value, list):
                raise _wrong(where, "no list")
            for index, each in enumerate(value):
                yield from _put(message, field, each, f"{where}[{index}]")
        else:
            yield from _put(message, field, value, where)


def _put(message: Message, field: Any, value: Any, where: str) -> Iterator[str]:
    """Set a field, or add to it."""
    into = getattr(message, field.name)
    if field.message_type is not None:
        if not isinstance(value, dict):
            raise _wrong(where, "no group of settings")
        inner = into.add() if field.is_repeated else into
        if isinstance(inner, common_pb2.InputImage):
            yield from _picture(inner, value, where)
            return
        inner.SetInParent()
        yield from _fill(inner, value, f"{where}.")
        return
    if field.enum_type is not None:
        value = _enum(field.enum_type, value, where)
        if not value:
            return
    _check(field, value, where)
    try:
        if field.is_repeated:
            into.append(value)
        else:
            setattr(message, field.name, value)
    except (TypeError, ValueError):
        raise _wrong(where, "not a value that it can have") from None


def _picture(image: common_pb2.InputImage, value: dict[str, Any], where: str) -> Iterator[str]:
    sha256 = value.get("sha256")
    if not isinstance(sha256, str):
        raise _wrong(f"{where}.sha256", "no text")
    if value.get("artifact") is True:
        image.artifact_id = sha256
        return
    yield (
        f"{where}: the picture (SHA-256 {sha256[:64]}) came with the request and was not kept; "
        f"give it again, as with --set {_assigned(where)}=FILE."
    )


def _assigned(where: str) -> str:
    """A path as --set has it."""
    return where.replace("[", ".").replace("]", "")


def _enum(enum: Any, word: Any, where: str) -> int:
    """The number of an enum's value; 0 where it is left open."""
    if not isinstance(word, str):
        raise _wrong(where, "no word")
    # Every enum's zero is its prefix and UNSPECIFIED.
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    found = enum.values_by_name.get(prefix + word.upper())
    if found is not None:
        return int(found.number)
    if word in _LEFT_OPEN:
        return 0
    raise _wrong(where, "a word that is not known here")


def _check(field: Any, value: Any, where: str) -> None:
    """Refuse what protobuf would take for something else, or not at all."""
    bits = _WHOLE.get(field.cpp_type)
    if bits is not None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(where, "no whole number")
        if not -(1 << bits) <= value < 1 << bits:
            raise _wrong(where, "a number that does not fit")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and not isinstance(value, bool):
        raise _wrong(where, "neither true nor false")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE and (
        isinstance(value, bool) or not isinstance(value, int | float)
    ):
        raise _wrong(where, "no number")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not isinstance(value, str):
        raise _wrong(where, "no text")


def _wrong(where: str, what: str) -> UnusableOptions:
    return UnusableOptions(f"its settings are damaged: {where} is {what}")
