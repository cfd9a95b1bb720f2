"""What intervals of memory come to: series, peaks, percentiles, owners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from domains.memory.core.intervals import Stretch
from domains.memory.types import MemoryInterval, Place


@dataclass(frozen=True)
class Sample:
    """The peak of one point of a series, and the worst fragmentation in it."""

    sample_time: datetime
    used_bytes: int
    fragmentation: float | None


@dataclass(frozen=True)
class OwnerUsage:
    """What an owner held over the window."""

    owner: str
    mean_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class History:
    """One place over the window; percentiles are over time.

    `p50_bytes` is of the intervals' means, `p95_bytes` of their peaks: the older the
    history, the coarser, and what is told rather too high than too low.
    """

    place: Place
    samples: tuple[Sample, ...]
    peak_bytes: int
    p50_bytes: int
    p95_bytes: int
    owners: tuple[OwnerUsage, ...]
    eviction_count: int
    out_of_memory_count: int
    fragmentation_p95: float | None = None


def summarise(
    place: Place, stretches: Sequence[Stretch], *, since: float, until: float, points: int
) -> History:
    """A place's intervals as a series of `points` equal parts, and the figures of all.

    A part's time is when it was first read in it: none is before the history began.
    """
    width = (until - since) / points
    parts: dict[int, list[MemoryInterval]] = {}
    for stretch in stretches:
        inside = max(stretch.interval.start - since, 0.0)
        parts.setdefault(min(int(inside / width), points - 1), []).append(stretch.interval)
    read = [stretch for stretch in stretches if stretch.interval.samples]
    intervals = [stretch.interval for stretch in stretches]
    fragments = [
        (round(one.interval.fragmentation * 1e9), one.seconds)
        for one in read
        if one.interval.fragmentation is not None
    ]
    return History(
        place=place,
        samples=tuple(
            Sample(
                datetime.fromtimestamp(max(since, min(one.start for one in part)), UTC),
                max(one.peak_bytes for one in part),
                max(
                    (one.fragmentation for one in part if one.fragmentation is not None),
                    default=None,
                ),
            )
            for _, part in sorted(parts.items())
            if any(one.samples for one in part)
        ),
        peak_bytes=max((one.interval.peak_bytes for one in read), default=0),
        p50_bytes=percentile([(s.interval.mean_bytes, s.seconds) for s in read], 0.50),
        p95_bytes=percentile([(s.interval.peak_bytes, s.seconds) for s in read], 0.95),
        owners=_owners(read),
        eviction_count=sum(one.evictions for one in intervals),
        out_of_memory_count=sum(one.out_of_memory for one in intervals),
        fragmentation_p95=percentile(fragments, 0.95) / 1e9 if fragments else None,
    )


def percentile(weighted: Sequence[tuple[int, float]], share: float) -> int:
    """The least value that `share` (0 to 1) of the weight does not exceed; 0 of nothing."""
    ordered = sorted(weighted)
    needed = share * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        # A rounding error of the sums must not skip the last value.
        if reached >= needed * (1 - 1e-12):
            return value
    return 0


def _owners(stretches: Sequence[Stretch]) -> tuple[OwnerUsage, ...]:
    seconds = sum(stretch.seconds for stretch in stretches)
    names = {name for stretch in stretches for name in stretch.interval.owners}
    found = []
    for name in names:
        held = [(s.interval.owners.get(name), s.seconds) for s in stretches]
        total = sum(one.mean_bytes * weight for one, weight in held if one is not None)
        peak = max(one.peak_bytes for one, _ in held if one is not None)
        found.append(OwnerUsage(name, round(total / seconds) if seconds else peak, peak))
    return tuple(sorted(found, key=lambda usage: (-usage.peak_bytes, usage.owner)))
