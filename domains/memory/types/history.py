"""The history of memory in intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class OwnerInterval:
    """What an owner held during an interval."""

    mean_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class MemoryInterval:
    """A place during `resolution` seconds from `start` on, in Unix seconds.

    `samples` readings are summed up in it. `fragmentation` is the worst of them: the share
    of free memory outside the largest free block, None where nobody tells. `owners` are
    model ids, "leases", "workers" and "others".
    """

    place: str
    resolution: int
    start: int
    peak_bytes: int
    mean_bytes: int
    samples: int
    fragmentation: float | None = None
    owners: Mapping[str, OwnerInterval] = field(default_factory=dict)
    evictions: int = 0
    out_of_memory: int = 0
