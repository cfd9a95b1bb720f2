"""How much may be kept, and how much of that for good."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from domains.artifact.core.entries import Entry
from domains.artifact.errors import LargerThanQuota, TooMuchPinned
from domains.artifact.ports import Needed
from domains.rooms import Room


def held_bytes(entries: Iterable[Entry], needed: Collection[str] = ()) -> int:
    """Bytes of what is pinned, or of those ids."""
    return sum(
        entry.size_bytes for entry in entries if entry.pinned or entry.artifact_id in needed
    )


def staying(needed: Needed, newest: str) -> Callable[[str], bool]:
    """Says of ids whether they stay: the newest, and what work needs. That is asked again for
    each that would go, since work is accepted while files are deleted."""
    before = {*needed(), newest}
    return lambda artifact_id: artifact_id in before or artifact_id in needed()


@dataclass(frozen=True)
class Quota:
    """Most bytes kept. Pinned ones take half of them at most where one client pins, and three
    quarters where many do, so that there is always room for what comes and goes."""

    size_bytes: int

    def check_size(
        self, entries: Iterable[Entry], size_bytes: int, needed: Collection[str] = ()
    ) -> None:
        """Refuse what has more bytes than may be kept beside what is pinned or needed.

        Args:
            entries: All.
            size_bytes: Its size.
            needed: Ids of those that work needs, where that counts: what work makes is kept
                beside what it needs, as far as the disk allows.

        Raises:
            LargerThanQuota: It has.
        """
        self.check(size_bytes, held_bytes(entries, needed))

    def check(self, size_bytes: int, held: int) -> None:
        """The same, where that has so many bytes.

        Raises:
            LargerThanQuota: It has more than that leaves.
        """
        if size_bytes > self.size_bytes - held:
            raise LargerThanQuota(size_bytes, self.size_bytes, held)

    def check_pin(self, entries: Iterable[Entry], entry: Entry, owner: str) -> None:
        """Refuse to keep one more for good; no client keeps the others from pinning.

        Raises:
            TooMuchPinned: This client has its share.
        """
        room = Room(self.size_bytes // 2)
        for other in entries:
            for name, holding in other.holdings.items():
                if holding.pinned:
                    room.take(name, other.size_bytes)
        if not room.has_place_for(owner, entry.size_bytes):
            raise TooMuchPinned(entry.size_bytes, room.limit_for(owner))

    def beyond(self, entries: Sequence[Entry], stays: Callable[[str], bool]) -> Iterator[Entry]:
        """What is to go for the rest to be within the quota: the least recently used, except
        what is read, pinned or needed.

        Args:
            entries: All, the least recently used first.
            stays: Whether one of that id stays.
        """
        used = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            if used <= self.size_bytes:
                return
            if not (entry.readers or entry.pinned or stays(entry.artifact_id)):
                yield entry
                used -= entry.size_bytes
