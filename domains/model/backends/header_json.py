"""The JSON of a safetensors header, read piece by piece.

A parser in C lets nothing else of its process run until it is done, which for megabytes of
it is long enough for clients to notice. Here it parses one tensor or one text at a time, and
a header that has too many of them is given up as soon as it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

METADATA = "__metadata__"
# A tensor's entry has about 120 characters, and some times as many with blanks.
_LONGEST_ENTRY = 4096
_BLANK = " \t\n\r"
_BLANKS = re.compile(r"[ \t\n\r]*")
# As nearly all names are; the others take a slower way.
_PLAIN_NAME = re.compile(r'[ \t\n\r]*"([ !#-\[\]-~]*)"[ \t\n\r]*:')


class HeaderText:
    """Reads a header from its beginning to its end.

    Args:
        text: All of it. Every method raises ValueError or RecursionError where it is not
            as expected.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def members(self, read: Callable[[str], T]) -> Iterator[tuple[str, T]]:
        """Every name and value of an object, which are read with `read(name)`."""
        self._take("{")
        seen: set[str] = set()
        if self._next() == "}":
            self._take("}")
            return
        while True:
            name = self._name()
            if name in seen:
                raise ValueError("duplicate key")
            seen.add(name)
            yield name, read(name)
            if self._take(",}") == "}":
                return

    def text(self) -> str:
        """A text."""
        if self._next() != '"':
            raise ValueError("no text")
        text, self._position = _TEXTS.raw_decode(self._text, self._position)
        assert isinstance(text, str)
        return text

    def entry(self) -> Any:
        """A value of any kind, as short as that of a tensor is."""
        self._next()
        piece = self._text[self._position : self._position + _LONGEST_ENTRY]
        value, length = _ENTRIES.raw_decode(piece)
        self._position += length
        return value

    def rest(self) -> str:
        """What was not read yet."""
        return self._text[self._position :]

    def end(self) -> None:
        """Nothing but blanks comes now."""
        if self._next():
            raise ValueError("text after the header")

    def _name(self) -> str:
        """A name and the colon behind it."""
        plain = _PLAIN_NAME.match(self._text, self._position)
        if plain is not None:
            self._position = plain.end()
            return plain[1]
        name = self.text()
        self._take(":")
        return name

    def _next(self) -> str:
        """The character after blanks, which are passed; empty at the end."""
        found = self._text[self._position : self._position + 1]
        if found not in _BLANK:
            return found
        blanks = _BLANKS.match(self._text, self._position)
        assert blanks is not None
        self._position = blanks.end()
        return self._text[self._position : self._position + 1]

    def _take(self, expected: str) -> str:
        found = self._next()
        if not found or found not in expected:
            raise ValueError("not the expected character")
        self._position += 1
        return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(_text: str) -> NoReturn:
    raise ValueError("NaN or Infinity")


_TEXTS = json.JSONDecoder()
_ENTRIES = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
