"""Advice about memory: rules over figures, each with the figures that led to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from domains.device.types import LoadedComponent
from domains.memory.types import History, Place
from domains.values import ByteFigure, FigureQuality, TensorDataType

# From these on a place is short of memory, fragmented, or a model is not used.
HIGH_SHARE = 0.8
FULL_SHARE = 0.9
FRAGMENTED = 0.25
UNUSED_SECONDS = 600.0
MANY_EVICTIONS = 5
_MOST_ADVICE = 32
_WIDE = TensorDataType.FLOAT32


class Advice(Enum):
    """What kind of advice."""

    RESIZE_CACHE = "resize-cache"
    UNLOAD_MODEL = "unload-model"
    SMALLER_DATA_TYPE = "smaller-data-type"
    TILE = "tile"
    DEFRAGMENT = "defragment"
    ADD_MEMORY = "add-memory"


@dataclass(frozen=True)
class Recommendation:
    """A piece of advice; `evidence` are the figures behind it, by name with their unit."""

    kind: Advice
    place: Place
    description: str
    evidence: Mapping[str, str]
    expected_gain: ByteFigure


@dataclass(frozen=True)
class PlaceFacts:
    """What is known of a place.

    `models` are the components in it; `half_precision` is whether its device was measured
    to compute right in 16 bits (False before that); `tiled` whether it runs with
    the profile LOW_MEMORY already. `free` and `total` are in bytes, now.
    """

    history: History
    total: int
    free: int
    now: datetime
    models: tuple[LoadedComponent, ...] = ()
    half_precision: bool = False
    tiled: bool = False

    @property
    def place(self) -> Place:
        """Which place it is."""
        return self.history.place

    def share(self, used: int) -> float:
        """Of the memory in all, 0 to 1."""
        return used / self.total if self.total else 0.0

    def unused(self) -> Sequence[tuple[str, int, float]]:
        """Models that no work uses, with their bytes and the seconds since their last use."""
        sizes: dict[str, int] = {}
        last: dict[str, datetime] = {}
        busy = {part.model_id for part in self.models if part.in_use}
        for part in self.models:
            sizes[part.model_id] = sizes.get(part.model_id, 0) + (part.size.value or 0)
            moment = max(last.get(part.model_id, part.last_use_time), part.last_use_time)
            last[part.model_id] = moment
        return [
            (model, sizes[model], (self.now - moment).total_seconds())
            for model, moment in last.items()
            if model not in busy
        ]


def recommend(places: Iterable[PlaceFacts]) -> tuple[Recommendation, ...]:
    """The advice that gains most, that first; none when all is well."""
    found = [advice for facts in places for rule in RULES for advice in rule(facts)]
    found.sort(key=lambda one: -(one.expected_gain.value or 0))
    return tuple(found[:_MOST_ADVICE])


def _unload(facts: PlaceFacts) -> Iterable[Recommendation]:
    """A model lies unused while memory is short."""
    p95 = facts.share(facts.history.p95_bytes)
    if p95 < HIGH_SHARE:
        return
    for model, size, seconds in facts.unused():
        if seconds >= UNUSED_SECONDS and size > 0:
            yield Recommendation(
                Advice.UNLOAD_MODEL,
                facts.place,
                f"Unload {model}: nothing used it for {seconds / 60:.0f} minutes while "
                f"memory was short.",
                {
                    "model_id": model,
                    "unused_seconds": f"{seconds:.0f}",
                    "model_bytes": str(size),
                    **_use(facts),
                },
                ByteFigure.measured(size, "the model's bytes on the device"),
            )


def _smaller_type(facts: PlaceFacts) -> Iterable[Recommendation]:
    """Networks compute in 32 bits where 16 were measured to do."""
    wide = [part for part in facts.models if part.data_type == _WIDE]
    size = sum(part.size.value or 0 for part in wide)
    peak = facts.share(facts.history.peak_bytes)
    if not facts.half_precision or not size or peak < HIGH_SHARE:
        return
    yield Recommendation(
        Advice.SMALLER_DATA_TYPE,
        facts.place,
        "Ask for FASTEST precision, or give the device the profile FAST: its models are in "
        "float32 and it computes right in 16 bits.",
        {"float32_bytes": str(size), "half_precision_works": "true", **_use(facts)},
        ByteFigure(size // 2, FigureQuality.ESTIMATED, "half of the float32 weights"),
    )


def _tile(facts: PlaceFacts) -> Iterable[Recommendation]:
    """Memory ran out on a device that draws, and neither tiles nor slices."""
    failures = facts.history.out_of_memory_count
    draws = any(isinstance(usage.holder, str) for usage in facts.history.holders)
    if not failures or not draws or facts.tiled or facts.place.host:
        return
    spike = max(0, facts.history.peak_bytes - facts.history.p50_bytes)
    yield Recommendation(
        Advice.TILE,
        facts.place,
        "Give the device the profile LOW_MEMORY, which decodes in tiles and attends in "
        "slices: work or a lease ran out of memory.",
        {"out_of_memory_count": str(failures), "spike_bytes": str(spike), **_use(facts)},
        ByteFigure(
            spike // 2, FigureQuality.ESTIMATED, "half of the peak above the median use"
        ),
    )


def _defragment(facts: PlaceFacts) -> Iterable[Recommendation]:
    """Free memory lies in pieces."""
    fragmentation = facts.history.fragmentation_p95
    if fragmentation is None or fragmentation < FRAGMENTED or not facts.free:
        return
    yield Recommendation(
        Advice.DEFRAGMENT,
        facts.place,
        "Defragment the device: much of its free memory is outside the largest block.",
        {"fragmentation_p95": f"{fragmentation:.3f}", "free_bytes": str(facts.free)},
        ByteFigure(
            int(facts.free * fragmentation),
            FigureQuality.ESTIMATED,
            "free bytes outside the largest block",
        ),
    )


def _resize(facts: PlaceFacts) -> Iterable[Recommendation]:
    """Models are evicted again and again, though not for want of being used."""
    evictions = facts.history.eviction_count
    if evictions < MANY_EVICTIONS:
        return
    models = {
        usage.holder: usage.peak_bytes
        for usage in facts.history.holders
        if isinstance(usage.holder, str)
    }
    largest = max(models.values(), default=0)
    yield Recommendation(
        Advice.RESIZE_CACHE,
        facts.place,
        f"Models were evicted {evictions} times: use fewer at a time, or leave models "
        "more room than the pressure thresholds do.",
        {
            "eviction_count": str(evictions),
            "model_count": str(len(models)),
            "largest_model_bytes": str(largest),
            **_use(facts),
        },
        ByteFigure(largest, FigureQuality.ESTIMATED, "the largest model, not loaded again"),
    )


def _add_memory(facts: PlaceFacts) -> Iterable[Recommendation]:
    """Memory is nearly full again and again, and no eviction would change that."""
    used = facts.history.p95_bytes
    evictable = sum(size for _, size, _ in facts.unused())
    if facts.share(used) < FULL_SHARE or facts.share(used - evictable) < FULL_SHARE:
        return
    wanted = int(used / HIGH_SHARE) - facts.total
    yield Recommendation(
        Advice.ADD_MEMORY,
        facts.place,
        "Add memory, or use less of it: for a twentieth of the time or more it was at least "
        f"{facts.share(used):.0%} full, and evicting idle models would not change that.",
        {"evictable_bytes": str(evictable), **_use(facts)},
        ByteFigure(wanted, FigureQuality.ESTIMATED, "what brings the 95th percentile to 80 %"),
    )


def _use(facts: PlaceFacts) -> dict[str, str]:
    history = facts.history
    return {
        "peak_bytes": str(history.peak_bytes),
        "p95_bytes": str(history.p95_bytes),
        "total_bytes": str(facts.total),
    }


Rule = Callable[[PlaceFacts], Iterable[Recommendation]]
RULES: tuple[Rule, ...] = (_unload, _smaller_type, _tile, _defragment, _resize, _add_memory)
