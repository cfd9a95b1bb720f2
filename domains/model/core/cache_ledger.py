"""What the cache holds: least recently used first out, within a budget, nothing in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from domains.model.core.extents import Extent, Extents
from domains.model.types import FileState
from domains.values import CachedFile, ModelPlace

PAGE_BYTES = 4096


@dataclass(eq=False)
class CacheEntry:
    """A model's weight files in the arena.

    `ready` says that all its bytes are there; `valid` that they are those on disk, as far as
    is known. `leases` is how many jobs use it, or wait until it is ready.
    """

    model_id: str
    place: ModelPlace
    files: tuple[CachedFile, ...]
    last_use_time: datetime
    pinned: bool = False
    hit_count: int = 0
    leases: int = 0
    ready: bool = False
    valid: bool = True

    @property
    def extents(self) -> list[Extent]:
        """Its addresses, in whole pages."""
        return [(file.offset_bytes, _pages(file.size_bytes)) for file in self.files]

    @property
    def size_bytes(self) -> int:
        """Main memory that it takes."""
        return sum(length for _, length in self.extents)

    @property
    def states(self) -> tuple[FileState, ...]:
        """Its files as they were when they were read."""
        return tuple(
            FileState(file.name, file.size_bytes, file.modified_ns) for file in self.files
        )


@dataclass(frozen=True)
class Reservation:
    """An entry that has its addresses, what had to go for it, and which addresses of that are
    not needed: to be given back, see `CacheLedger.returned`."""

    entry: CacheEntry
    evicted: tuple[CacheEntry, ...] = ()
    surplus: tuple[Extent, ...] = ()


@dataclass
class CacheCounts:
    """Loads that found their model cached, those that did not, and models that went for
    others."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


@dataclass
class CacheLedger:
    """Accounts for every address of an arena of `size` bytes.

    An entry that is not valid any more stays until nobody uses it, and is not found. Addresses
    that were freed are nobody's until their pages have gone back to the system: whoever
    frees some says so with `returned`.
    """

    size: int
    counts: CacheCounts = field(default_factory=CacheCounts)

    def __post_init__(self) -> None:
        self._extents = Extents([(0, self.size)])
        self._entries: dict[str, CacheEntry] = {}  # least recently used first
        self._stale: list[CacheEntry] = []
        self._returning: list[Extent] = []

    def __iter__(self) -> Iterator[CacheEntry]:
        """The entries that can be found, least recently used first."""
        return iter(tuple(self._entries.values()))

    def find(self, model_id: str) -> CacheEntry | None:
        """The entry of that model, ready or not."""
        return self._entries.get(model_id)

    @property
    def used_bytes(self) -> int:
        """What all entries take, and what of earlier ones has not gone back yet."""
        returning = sum(length for _, length in self._returning)
        return returning + sum(entry.size_bytes for entry in self._all())

    @property
    def kept_bytes(self) -> int:
        """What entries take that cannot be evicted now."""
        return sum(entry.size_bytes for entry in self._all() if not _evictable(entry))

    def evictable(self) -> list[CacheEntry]:
        """Entries that may be evicted, least recently used first."""
        return [entry for entry in self._entries.values() if _evictable(entry)]

    def reserve(
        self,
        model_id: str,
        place: ModelPlace,
        files: Sequence[FileState],
        *,
        limit: int,
        now: datetime,
    ) -> Reservation | None:
        """Give a model addresses, evicting what was not used for longest where it must be.

        Args:
            model_id: Of a model that has no entry.
            place: Where it lies.
            files: What is to be kept.
            limit: Bytes that all entries may take afterwards.
            now: The time.

        Returns:
            None where it does not fit even if all went that may; nothing has gone then.
        """
        used, needed = self.used_bytes, sum(_pages(file.size_bytes) for file in files)
        trial, victims, waiting = self._extents.copy(), [], self.evictable()
        while True:
            if used + needed <= limit:
                placed = _placed(trial.copy(), files)
                if placed is not None:
                    break
            if not waiting:
                return None
            victim = waiting.pop(0)
            victims.append(victim)
            used -= victim.size_bytes
            for extent in victim.extents:
                trial.put(extent)
        self._extents, cached = placed
        for victim in victims:
            victim.valid = False  # whoever is looking at its files finds that out
            del self._entries[victim.model_id]
        self.counts.evictions += len(victims)
        entry = CacheEntry(model_id, place, cached, now)
        self._entries[model_id] = entry
        freed = [extent for victim in victims for extent in victim.extents]
        surplus = [one for extent in freed for one in self._extents.free_within(extent)]
        for one in surplus:
            self._extents.remove(one)
        self._returning += surplus
        return Reservation(entry, tuple(victims), tuple(surplus))

    def touch(self, entry: CacheEntry, now: datetime) -> None:
        """It is used now."""
        entry.last_use_time = now
        if self._entries.get(entry.model_id) is entry:
            self._entries[entry.model_id] = self._entries.pop(entry.model_id)

    def invalidate(self, entry: CacheEntry) -> list[Extent]:
        """Let nobody find it any more.

        Returns:
            Addresses to be given back; none while somebody uses it, see `release`.
        """
        if entry.valid:
            entry.valid = False
            del self._entries[entry.model_id]
            self._stale.append(entry)
        return self._settle(entry)

    def lease(self, entry: CacheEntry) -> None:
        """One more uses it."""
        entry.leases += 1

    def release(self, entry: CacheEntry) -> list[Extent]:
        """One less uses it; returns addresses to be given back thereby."""
        entry.leases -= 1
        return self._settle(entry)

    def _settle(self, entry: CacheEntry) -> list[Extent]:
        if entry.valid or entry.leases or entry not in self._stale:
            return []
        self._stale.remove(entry)
        self._returning += entry.extents
        return entry.extents

    def returned(self, extents: Iterable[Extent]) -> None:
        """The pages of these addresses have gone back: they can be used again."""
        for extent in extents:
            self._returning.remove(extent)
            self._extents.put(extent)

    def _all(self) -> Iterable[CacheEntry]:
        return (*self._entries.values(), *self._stale)


def _evictable(entry: CacheEntry) -> bool:
    return entry.ready and entry.valid and not entry.pinned and not entry.leases


def _pages(size: int) -> int:
    """Bytes of the pages that so many bytes take; one at least, so that each has its own."""
    return max(1, -(-size // PAGE_BYTES)) * PAGE_BYTES


def _placed(
    extents: Extents, files: Sequence[FileState]
) -> tuple[Extents, tuple[CachedFile, ...]] | None:
    """Addresses for files, the largest first; None where there are none for one of them."""
    offsets: dict[str, int] = {}
    for file in sorted(files, key=lambda file: -file.size_bytes):
        begin = extents.take(_pages(file.size_bytes))
        if begin is None:
            return None
        offsets[file.name] = begin
    cached = tuple(
        CachedFile(file.name, file.size_bytes, file.modified_ns, offsets[file.name])
        for file in files
    )
    return extents, cached
