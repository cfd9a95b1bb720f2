"""The history of memory: what is noted of it, and what it comes to over a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from domains.memory.types.places import Place


@dataclass(frozen=True)
class Reading:
    """A place at one moment, or without `used_bytes` what happened there.

    `fragmentation` is the share of free memory outside the largest free block, 0 to 1, None
    where no figure tells it. `owners` are bytes of model ids, "leases", "workers", "others".
    """

    place: Place
    used_bytes: int | None = None
    fragmentation: float | None = None
    owners: Mapping[str, int] = field(default_factory=dict)
    evictions: int = 0
    out_of_memory: int = 0


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
    history, the coarser, and rather too high than too low.
    """

    place: Place
    samples: tuple[Sample, ...] = ()
    peak_bytes: int = 0
    p50_bytes: int = 0
    p95_bytes: int = 0
    owners: tuple[OwnerUsage, ...] = ()
    eviction_count: int = 0
    out_of_memory_count: int = 0
    fragmentation_p95: float | None = None
