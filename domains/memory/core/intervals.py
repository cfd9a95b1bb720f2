"""The history of memory in three resolutions, each bounded: a ring of intervals per place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from domains.memory.types import MemoryInterval, OwnerInterval

# How many seconds back are kept, by resolution in seconds, the finest first.
KEPT: Mapping[int, int] = {1: 600, 60: 86_400, 3_600: 2_592_000}
# What lies further ahead than this was written by a clock that was wrong.
_FUTURE_SECONDS = 7_200


@dataclass(frozen=True)
class Reading:
    """One place at one moment; owners as in `MemoryInterval`, in bytes."""

    place: str
    used_bytes: int
    fragmentation: float | None = None
    owners: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stretch:
    """What counts of an interval, and for how many seconds; none without a reading."""

    interval: MemoryInterval
    seconds: float


class Intervals:
    """Every place's intervals, in memory."""

    def __init__(self, kept: Iterable[MemoryInterval] = ()) -> None:
        self._rings: dict[tuple[str, int], dict[int, MemoryInterval]] = defaultdict(dict)
        for interval in sorted(kept, key=lambda one: one.start):
            if interval.resolution in KEPT:
                self._rings[interval.place, interval.resolution][interval.start] = interval

    @property
    def places(self) -> tuple[str, ...]:
        """Every place of which there is a history."""
        return tuple(dict.fromkeys(place for place, _ in self._rings))

    def add(self, now: float, reading: Reading) -> tuple[MemoryInterval, ...]:
        """Take a reading at `now` in Unix seconds; returns the intervals that it changed."""
        return self._change(now, reading.place, lambda found: _with(found, reading))

    def count(
        self, now: float, place: str, *, evictions: int = 0, out_of_memory: int = 0
    ) -> tuple[MemoryInterval, ...]:
        """Count what happened at a place; returns the intervals that it changed."""
        return self._change(
            now,
            place,
            lambda found: replace(
                found,
                evictions=found.evictions + evictions,
                out_of_memory=found.out_of_memory + out_of_memory,
            ),
        )

    def select(self, place: str, since: float, until: float) -> Sequence[Stretch]:
        """The intervals of a place between two moments, oldest first, none counted twice.

        The finest resolution there is for each part.
        """
        found: list[Stretch] = []
        end = until
        finer: Mapping[int, MemoryInterval] = {}
        for resolution in KEPT:
            ring = self._rings.get((place, resolution), {})
            chosen = []
            held = _sums(finer.values(), resolution)
            for start, one in sorted(ring.items()):
                seconds = min(start + resolution, end) - max(start, since)
                left = _less(one, held.get(start, _NOTHING))
                if seconds > 0 and (left.samples or left.evictions or left.out_of_memory):
                    chosen.append(Stretch(left, min(seconds, float(left.samples))))
            if chosen:
                found[:0] = chosen
                end = min(end, float(chosen[0].interval.start))
            finer = ring
        return found

    def _change(
        self, now: float, place: str, change: Callable[[MemoryInterval], MemoryInterval]
    ) -> tuple[MemoryInterval, ...]:
        changed = []
        for resolution, age in KEPT.items():
            ring = self._rings[place, resolution]
            start = int(now // resolution * resolution)
            found = ring.pop(start, None) or MemoryInterval(place, resolution, start, 0, 0, 0)
            ring[start] = change(found)
            changed.append(ring[start])
            for old in [s for s in ring if s <= now - age or s > now + _FUTURE_SECONDS]:
                del ring[old]
        return tuple(changed)


_NOTHING = (0, 0, 0)


def _sums(
    intervals: Iterable[MemoryInterval], resolution: int
) -> dict[int, tuple[int, int, int]]:
    """Readings, evictions and failures of `intervals`, by the coarser one they lie in."""
    found: dict[int, tuple[int, int, int]] = {}
    for one in intervals:
        start = one.start // resolution * resolution
        samples, evictions, failures = found.get(start, _NOTHING)
        found[start] = (
            samples + one.samples,
            evictions + one.evictions,
            failures + one.out_of_memory,
        )
    return found


def _less(interval: MemoryInterval, held: tuple[int, int, int]) -> MemoryInterval:
    """The interval without the readings and events that finer ones inside it hold."""
    samples, evictions, failures = held
    return replace(
        interval,
        samples=max(0, interval.samples - samples),
        evictions=max(0, interval.evictions - evictions),
        out_of_memory=max(0, interval.out_of_memory - failures),
    )


def _with(found: MemoryInterval, reading: Reading) -> MemoryInterval:
    count = found.samples
    none = OwnerInterval(0, 0)
    owners = {}
    for name in {**found.owners, **reading.owners}:
        held, now = found.owners.get(name, none), reading.owners.get(name, 0)
        owners[name] = OwnerInterval(
            _mean(held.mean_bytes, count, now), max(held.peak_bytes, now)
        )
    fragments = [one for one in (found.fragmentation, reading.fragmentation) if one is not None]
    return replace(
        found,
        peak_bytes=max(found.peak_bytes, reading.used_bytes),
        mean_bytes=_mean(found.mean_bytes, count, reading.used_bytes),
        samples=count + 1,
        fragmentation=max(fragments, default=None),
        owners=owners,
    )


def _mean(before: int, count: int, value: int) -> int:
    return round((before * count + value) / (count + 1))
