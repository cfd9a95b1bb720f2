"""Checks of what a worker sends; each raises ProtocolError naming the field alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from domains.conversions import EnumMap
from domains.errors import InvalidArgument
from server.worker.frames import ProtocolError

E = TypeVar("E", bound=Enum)
V = TypeVar("V", bound=int)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SPOOL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.(png|jpeg|webp)\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MOST_ENTRIES = 64


def known(numbers: EnumMap[E, V], number: int, field: str) -> E:
    """The member of a number; zero is none."""
    try:
        member = numbers.optional_from_proto(number)
    except InvalidArgument:
        member = None
    if member is None:
        raise ProtocolError(f"{field} holds an unknown number")
    return member


def within(value: int, lowest: int, highest: int, field: str) -> int:
    """A number between two others, both included."""
    if not lowest <= value <= highest:
        raise ProtocolError(f"{field} is out of range")
    return value


def finite(value: float, field: str) -> float:
    """A number of seconds: neither negative nor beyond all measure."""
    if not (math.isfinite(value) and value >= 0):
        raise ProtocolError(f"{field} is no number of seconds")
    return value


def error_share(value: float, field: str) -> float:
    """A relative error, infinite where results were not finite."""
    if not value >= 0:
        raise ProtocolError(f"{field} is no error")
    return value


def check_name(text: str, field: str, *, longest: int) -> str:
    """A name or id, which is never a path."""
    if len(text) > longest or not _NAME.match(text):
        raise ProtocolError(f"{field} is no name")
    return text


def spool_name(text: str) -> str:
    """A bare file name of the form that workers give pictures."""
    if not _SPOOL_NAME.match(text):
        raise ProtocolError("a picture's file name is not of the agreed form")
    return text


def sha256(text: str) -> str:
    """A SHA-256 in lower-case hexadecimal."""
    if not _SHA256.match(text):
        raise ProtocolError("sha256 is no hash")
    return text


def printable(text: str, field: str, *, longest: int) -> str:
    """Text on one line, of bounded length."""
    if len(text) > longest or not text.isprintable():
        raise ProtocolError(f"{field} is too long or holds control characters")
    return text


def texts(entries: Mapping[str, str], field: str, *, longest: int) -> dict[str, str]:
    """A bounded map of names to printable texts."""
    if len(entries) > _MOST_ENTRIES or not all(_KEY.match(key) for key in entries):
        raise ProtocolError(f"{field} has too many entries or a malformed key")
    return {key: printable(text, field, longest=longest) for key, text in entries.items()}
