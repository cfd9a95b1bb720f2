"""What was made of the same content a short while ago, which need not be made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The last few values with what they were made of, compared and not hashed.

    Args:
        most: So many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[Key, Value]] = []

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value made of `key` before, or a new one; what `make` raises is not kept."""
        found = next((one for one in self._kept if one[0] == key), None)
        if found is None:
            found = (key, make())
        self._kept = [found, *(one for one in self._kept if one is not found)][: self._most]
        return found[1]
