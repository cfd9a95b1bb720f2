"""Values as bytes and back: one codec, derived from the values' own types.

It serves everything that leaves a process or outlives one: the worker link, the start of a
worker, answers of probes, facts in the journal. A type declares its bounds beside its
fields (`Annotated`), so what comes back is as checked as it is declared: an unknown tag, a
missing or an extra field, a wrong type, a number out of range or not finite, a text or a
list too long are all `Malformed`. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload

import msgspec
from msgspec import Meta

T = TypeVar("T")

_ONE_LINE = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*\Z"
_LONGEST_TEXT = 1000
_LONGEST_PATH = 4096
_MOST = 64

Name = Annotated[str, Meta(max_length=128, pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:-]*\Z")]
"""An id or a name: never a path, never empty."""
Text = Annotated[str, Meta(max_length=_LONGEST_TEXT, pattern=_ONE_LINE)]
"""One line for people."""
Word = Annotated[str, Meta(max_length=128, pattern=_ONE_LINE)]
"""A few words of one line, perhaps none."""
ModelId = Annotated[str, Meta(max_length=256, pattern=_ONE_LINE)]
FilePath = Annotated[str, Meta(max_length=1_024, pattern=_ONE_LINE)]
"""Where below a folder a file lies, with slashes."""
FieldPath = Annotated[str, Meta(max_length=256, pattern=_ONE_LINE)]
"""Where in a request something stands: `settings.loras[1].weight`."""
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""A SHA-256 in lower-case hexadecimal."""
Texts = Annotated[Mapping[Name, Text], Meta(max_length=_MOST)]
Names = Annotated[tuple[Name, ...], Meta(max_length=_MOST)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ByteCount = Annotated[int, Meta(ge=0, le=1 << 50)]
"""Bytes; no machine has more."""
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
Measure = Annotated[float, Meta(ge=0.0, le=1e15)]
"""A finite number of something, never negative."""
Moment = Annotated[datetime, Meta(tz=True)]
FEW = Meta(max_length=_MOST)
"""The bound of a list that has a handful of elements."""


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """A value that can be encoded: immutable, compared by its fields, tagged by its name."""


class Malformed(ValueError):
    """Bytes that are not what they should be; the text says where, without their content."""


def encode(value: object) -> bytes:
    """A value, or a plain structure of such, as MessagePack."""
    return _ENCODER.encode(value)


@overload
def decode(kind: type[T], data: bytes) -> T: ...
@overload
def decode(kind: Hashable, data: bytes) -> Any: ...
def decode(kind: Any, data: bytes) -> Any:
    """The inverse of `encode`; `kind` is a type, or a union of types.

    Raises:
        Malformed: The bytes are not a `kind`.
    """
    return _decoded(_decoder(kind), data)


def encode_json(value: object) -> bytes:
    """A value as one line of JSON."""
    return _JSON_ENCODER.encode(value)


@overload
def decode_json(kind: type[T], data: bytes) -> T: ...
@overload
def decode_json(kind: Hashable, data: bytes) -> Any: ...
def decode_json(kind: Any, data: bytes) -> Any:
    """The inverse of `encode_json`; `kind` as for `decode`.

    Raises:
        Malformed: The text is not a `kind`.
    """
    return _decoded(_json_decoder(kind), data)


def one_line(text: str, longest: int = _LONGEST_TEXT) -> str:
    """The text as a `Text`: cut, and with blanks for what is not printable."""
    return "".join(
        character if character.isprintable() else " " for character in text[:longest]
    )


def _decoded(
    decoder: msgspec.msgpack.Decoder[Any] | msgspec.json.Decoder[Any], data: bytes
) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        # The library's text quotes a tag or a field that it does not know.
        path = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "`$`"
        raise Malformed(f"a value is not as declared at {one_line(path)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("bytes that are no value") from error


@cache
def _decoder(kind: Hashable) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, dec_hook=_from_plain)


@cache
def _json_decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, dec_hook=_from_plain)


def _to_plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def _from_plain(kind: type, value: object) -> object:
    if issubclass(kind, Path) and isinstance(value, str):
        if len(value) > _LONGEST_PATH or "\0" in value:
            raise ValueError("not a path")
        return Path(value)
    raise TypeError(f"not a {kind.__name__}")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_plain)
_JSON_ENCODER = msgspec.json.Encoder(enc_hook=_to_plain)
