"""Previews of several pictures in a terminal, side by side as they form."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

from server.cli.preview import Lines, half_blocks, put

if TYPE_CHECKING:
    from rich.text import Text

_LEAST_EDGE = 8
"""Characters a picture is wide at least; on less nothing can be recognised."""
_GAP = 1


@dataclass(frozen=True)
class Layout:
    """How many pictures are shown, how many of them in a row, and how large each is, in
    characters; under each of several is a line with its number."""

    shown: int
    across: int
    columns: int
    rows: int


@lru_cache(maxsize=16)
def layout(count: int, columns: int, rows: int) -> Layout:
    """The one of so many pictures that shows each as large as possible; of fewer of them where
    they would be too small."""
    if count <= 1:
        return Layout(1, 1, columns, rows)
    for shown in range(count, 1, -1):
        best = max(
            (_with(shown, across, columns, rows) for across in range(1, shown + 1)),
            key=_edge,
        )
        if _edge(best) >= _LEAST_EDGE:
            return best
    return Layout(1, 1, columns, max(1, rows - 1))


def _with(shown: int, across: int, columns: int, rows: int) -> Layout:
    wide = (columns - _GAP * (across - 1)) // across
    high = rows // ceil(shown / across) - 1
    return Layout(shown, across, wide, high)


def _edge(one: Layout) -> int:
    """Of a square picture, in characters across; two pixels lie in one of them."""
    return min(one.columns, 2 * one.rows)


class PreviewGrid:
    """The newest preview of each picture of a session, as many as there is room for: those
    that were drawn on last, in their order."""

    def __init__(self) -> None:
        self._newest: OrderedDict[int, bytes] = OrderedDict()
        self._lines: dict[int, Lines] = {}
        self._finished: set[int] = set()
        self._layout = Layout(1, 1, 0, 0)
        self._count = 1
        self._text: Text | None = None  # until something changes

    def take(self, index: int, jpeg: bytes, count: int, columns: int, rows: int) -> None:
        """A preview of the picture `index` of `count` has come.

        Args:
            index: From 0.
            jpeg: The file.
            count: Pictures of the session.
            columns: Characters across that there is room for.
            rows: Lines likewise.

        Raises:
            PreviewUnreadable: As `half_blocks`; what was there stays.
        """
        fitting = layout(count, columns, rows)
        lines = half_blocks(jpeg, fitting.columns, fitting.rows)
        if fitting != self._layout:
            self._layout = fitting
            self._lines = {
                other: half_blocks(data, fitting.columns, fitting.rows)
                for other, data in self._newest.items()
            }
        self._count, self._newest[index], self._lines[index] = count, jpeg, lines
        self._newest.move_to_end(index)
        while len(self._newest) > fitting.shown:
            gone, _ = self._newest.popitem(last=False)
            del self._lines[gone]
        self._text = None

    def finish(self, index: int) -> None:
        """The picture is finished, which its caption says."""
        self._finished.add(index)
        self._text = None

    def clear(self) -> None:
        """All of them are drawn anew."""
        self._newest.clear()
        self._lines.clear()
        self._finished.clear()
        self._text = None

    def drawn(self) -> Text | None:
        """All of them as text for a true-colour terminal; None while there is none."""
        from rich.text import Text

        if not self._newest or self._text is not None:
            return self._text
        text, indices = Text(no_wrap=True, overflow="crop"), sorted(self._newest)
        for first in range(0, len(indices), self._layout.across):
            if first:
                text.append("\n")
            self._put_row(text, indices[first : first + self._layout.across])
        self._text = text
        return text

    def _put_row(self, text: Text, indices: list[int]) -> None:
        pictures = [self._lines[index] for index in indices]
        for number in range(max(map(len, pictures))):
            if number:
                text.append("\n")
            for lines in pictures:
                line = lines[number] if number < len(lines) else []
                put(text, line)
                self._pad(text, len(line))
        if self._count > 1:
            text.append("\n")
            for index in indices:
                caption = f"{index + 1} done" if index in self._finished else str(index + 1)
                text.append(caption)
                self._pad(text, len(caption))

    def _pad(self, text: Text, used: int) -> None:
        if self._layout.across > 1:
            text.append(" " * (self._layout.columns + _GAP - used))
