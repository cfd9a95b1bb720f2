"""How long work takes on each device, from how long comparable work took there."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from itertools import islice
from math import log
from statistics import median_low
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from domains.codec import ModelId, Name, Seconds, Text, Value
from domains.session.types import Phase

Key = TypeVar("Key")
_MOST_KEPT = 4_096
_WINDOW = 5


@dataclass(frozen=True)
class Effort:
    """How much work there is to do, so that it can be compared with other work.

    `amounts` says for each phase how much of it there is, in a unit of that phase which its
    time is in proportion to. Work that only loads its model has none. Work is comparable
    when it is done with the same model in the same `manner` (its precision, say), and the
    more so the closer it is in `pixels` (of one picture; 0 where there is none).
    """

    model_id: str
    manner: str = ""
    pixels: int = 0
    amounts: Mapping[Phase, float] = field(default_factory=dict)


MOST_TOLD = 1_024
"""Of what is told to outlive the server, the newest of each kind."""


class Rate(Value, frozen=True):
    """Seconds that each phase takes for one unit of it, with pictures of so many pixels."""

    device_id: Name
    model_id: ModelId
    manner: Text
    pixels: Annotated[int, Meta(ge=0, le=2**40)]
    seconds: Annotated[Mapping[Phase, Seconds], Meta(max_length=len(Phase))]


class Loading(Value, frozen=True):
    """How long a model takes to load."""

    device_id: Name
    model_id: ModelId
    seconds: Seconds


class MeasuredSpeeds(Value, frozen=True):
    """What was learned, the newest last."""

    rates: Annotated[tuple[Rate, ...], Meta(max_length=MOST_TOLD)] = ()
    loads: Annotated[tuple[Loading, ...], Meta(max_length=MOST_TOLD)] = ()


_Place = tuple[str, str, str]
"""A device, a model and a manner."""


class _Newest:
    """The middle of the newest measurements, the lower one of two: a worker's first work of a
    kind takes several times as long as all that follows, and says nothing of it."""

    def __init__(self, seconds: float) -> None:
        self._newest = deque((seconds,), _WINDOW)
        self.middle = seconds

    def add(self, seconds: float) -> None:
        """One more measurement."""
        self._newest.append(seconds)
        self.middle = median_low(self._newest)


class Speeds:
    """What was measured; what is oldest is forgotten first."""

    def __init__(self) -> None:
        self._rates: OrderedDict[tuple[_Place, int], dict[Phase, _Newest]] = OrderedDict()
        self._loads: OrderedDict[tuple[str, str], _Newest] = OrderedDict()
        self.lessons = 0
        """How often something was learned."""

    def learn(self, device_id: str, effort: Effort, seconds: Mapping[Phase, float]) -> None:
        """Note how long each phase of finished work took; nothing where none took any time."""
        took = {
            phase: seconds.get(phase, 0.0)
            for phase, amount in effort.amounts.items()
            if amount > 0.0
        }
        loading = seconds.get(Phase.LOADING_MODEL, 0.0)
        self.lessons += loading > 0.0 or any(took.values())
        if loading > 0.0:  # it was not loaded already
            place = (device_id, effort.model_id)
            _add(self._loads, place, loading)
            _keep_newest(self._loads, place)
        if any(took.values()):  # else none of it was done
            key = ((device_id, effort.model_id, effort.manner), effort.pixels)
            rates = self._rates.setdefault(key, {})
            _keep_newest(self._rates, key)
            for phase, spent in took.items():
                _add(rates, phase, spent / effort.amounts[phase])

    def measured(self) -> MeasuredSpeeds:
        """The newest of what was learned."""
        rates = [
            Rate(*place, pixels, {phase: each.middle for phase, each in seconds.items()})
            for (place, pixels), seconds in islice(reversed(self._rates.items()), MOST_TOLD)
        ]
        loads = [
            Loading(*key, seconds.middle)
            for key, seconds in islice(reversed(self._loads.items()), MOST_TOLD)
        ]
        return MeasuredSpeeds(tuple(rates[::-1]), tuple(loads[::-1]))

    def recall(self, earlier: MeasuredSpeeds) -> None:
        """Know what was learned in an earlier run; to be called before anything is learned."""
        for rate in earlier.rates:
            place = (rate.device_id, rate.model_id, rate.manner)
            self._rates[place, rate.pixels] = {
                phase: _Newest(seconds) for phase, seconds in rate.seconds.items()
            }
        for load in earlier.loads:
            self._loads[load.device_id, load.model_id] = _Newest(load.seconds)

    def work_seconds(self, device_id: str, effort: Effort) -> float | None:
        """How long the work itself takes on that device, without loading.

        Measured with pictures of the same size or, where there are none, of the size
        closest to it. None when nothing comparable was measured there.
        """
        phases = self.phase_seconds(device_id, effort)
        return None if phases is None else sum(phases.values())

    def phase_seconds(self, device_id: str, effort: Effort) -> Mapping[Phase, float] | None:
        """The same by phases; of none for work that only loads its model."""
        if not effort.amounts:
            return {}
        place = (device_id, effort.model_id, effort.manner)
        sizes = [size for known, size in self._rates if known == place]
        if not sizes:
            return None
        closest = min(sizes, key=lambda size: abs(log((size + 1) / (effort.pixels + 1))))
        rates = self._rates[place, closest]
        amounts = {phase: amount for phase, amount in effort.amounts.items() if amount > 0.0}
        if not amounts.keys() <= rates.keys():
            return None
        return {phase: rates[phase].middle * amount for phase, amount in amounts.items()}

    def load_seconds(self, device_id: str, model_id: str) -> float | None:
        """How long the model takes to load there; on another device where only that was
        measured, since the disk is the same. None when it was never loaded.
        """
        there = self._loads.get((device_id, model_id))
        if there is not None:
            return there.middle
        elsewhere = (
            took.middle for (_, known), took in self._loads.items() if known == model_id
        )
        return max(elsewhere, default=None)


def _add(known: MutableMapping[Key, _Newest], key: Key, seconds: float) -> None:
    if key in known:
        known[key].add(seconds)
    else:
        known[key] = _Newest(seconds)


def _keep_newest(kept: OrderedDict[Key, Any], newest: Key) -> None:
    kept.move_to_end(newest)
    if len(kept) > _MOST_KEPT:
        kept.popitem(last=False)
