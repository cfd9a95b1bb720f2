"""Which addresses of a range are free: taken by best fit, joined again when they come back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

Extent = tuple[int, int]
"""Where it begins, and how long it is."""


class Extents:
    """The free extents of a range, in order; no two of them touch.

    Args:
        free: Extents that are free at first; they do not overlap.
    """

    def __init__(self, free: Iterable[Extent]) -> None:
        self._free = sorted(free)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._free)

    def copy(self) -> Extents:
        """Another one of the same state."""
        return Extents(self._free)

    def take(self, length: int) -> int | None:
        """Take that many addresses in a row; where they begin, None where none are.

        From the smallest extent that has them, so that what was used before is used again
        and the long ones stay long.
        """
        fitting = (
            (size, index) for index, (_, size) in enumerate(self._free) if size >= length
        )
        best = min(fitting, default=None)
        if best is None:
            return None
        size, index = best
        begin = self._free[index][0]
        if size == length:
            del self._free[index]
        else:
            self._free[index] = (begin + length, size - length)
        return begin

    def remove(self, extent: Extent) -> None:
        """Take an extent that is free."""
        begin, end = extent[0], sum(extent)
        index = bisect_left(self._free, (begin + 1, 0)) - 1
        start, size = self._free[index]
        parts = ((start, begin - start), (end, start + size - end))
        self._free[index : index + 1] = [part for part in parts if part[1]]

    def put(self, extent: Extent) -> None:
        """Addresses that were taken are free again."""
        begin, length = extent
        index = bisect_left(self._free, extent)
        if index < len(self._free) and self._free[index][0] == begin + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == begin:
            before, size = self._free[index - 1]
            self._free[index - 1] = (before, size + length)
        else:
            self._free.insert(index, (begin, length))

    def free_within(self, extent: Extent) -> list[Extent]:
        """What of an extent is free."""
        begin, end = extent[0], sum(extent)
        found = []
        for start, size in self._free:
            low, high = max(begin, start), min(end, start + size)
            if low < high:
                found.append((low, high - low))
        return found
