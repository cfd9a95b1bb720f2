"""What work names of what the server keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

K = TypeVar("K")
Picture = tuple[str, int]
"""Of a session, by the session's id and its number."""


class Names(Protocol):
    """Ids of artifacts, and pictures of sessions; both may change while work goes on."""

    @property
    def artifacts(self) -> Collection[str]: ...
    @property
    def pictures(self) -> Collection[Picture]: ...


@dataclass(frozen=True)
class Named:
    """What one request names, which never changes."""

    artifacts: frozenset[str] = frozenset()
    pictures: frozenset[Picture] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.artifacts or self.pictures)


NOTHING_NAMED = Named()


class NameCounts:
    """What many parts of one piece of work name, each for as long as it has not ended."""

    def __init__(self) -> None:
        self._artifacts: Counter[str] = Counter()
        self._pictures: Counter[Picture] = Counter()

    @property
    def artifacts(self) -> Collection[str]:
        """Each that a part names."""
        return self._artifacts.keys()

    @property
    def pictures(self) -> Collection[Picture]:
        """Likewise."""
        return self._pictures.keys()

    def add(self, named: Named) -> None:
        """A part needs these from now on."""
        self._artifacts.update(named.artifacts)
        self._pictures.update(named.pictures)

    def remove(self, named: Named) -> None:
        """A part that was added needs them no more."""
        _less(self._artifacts, named.artifacts)
        _less(self._pictures, named.pictures)


def _less(counts: Counter[K], names: Collection[K]) -> None:
    for name in names:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]
