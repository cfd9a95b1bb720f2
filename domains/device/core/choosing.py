"""Which of several devices a piece of work is done on first: the rule, without the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domains.values import PlacementDecision, PlacementReason

_EQUALLY_SOON = 1.05
"""Ends that differ by less are the same: measured times spread by more than that."""
_EQUALLY_FAST = 0.9


@dataclass(frozen=True)
class Candidate:
    """A device as it is now for one piece of work; seconds are None where unmeasured.

    `ready` is False while its worker starts or is replaced, `full` where nothing more may wait.
    `loaded` says whether the work's
    model will lie there when its turn comes, `sessions` how many come before it.
    `tflops` is the device's speed in general.
    """

    device_id: str
    last_choice: bool = False
    is_default: bool = False
    ready: bool = True
    full: bool = False
    loaded: bool = False
    sessions: int = 0
    queue_seconds: float | None = 0.0
    load_seconds: float | None = None
    work_seconds: float | None = None
    tflops: float | None = None

    @property
    def seconds(self) -> float | None:
        """From now to the end of the work there."""
        if self.queue_seconds is None or self.load_seconds is None or self.work_seconds is None:
            return None
        return self.queue_seconds + self.load_seconds + self.work_seconds


def choose(candidates: Sequence[Candidate]) -> PlacementDecision:
    """The device that will be done first.

    Those that are the last choice (processors) come into question only where nothing else
    does, those that are not ready yet only where no other one is, and those whose queue is full
    only where every one is. Where the
    end of the work is known on each device, the first end counts, and of equal ones the
    device with the model, then the default. Otherwise it is the fewest sessions, then the
    model, then the greater general speed, then the default.

    Args:
        candidates: At least one, the best first where nothing else decides.
    """
    best = min(_class(one) for one in candidates)
    group = [one for one in candidates if _class(one) == best]
    by_time = all(one.seconds is not None for one in group)
    chosen = (_soonest if by_time else _least_busy)(group)
    if len(group) == 1:
        reason = PlacementReason.ONLY_ONE
    else:
        others = [one for one in group if one is not chosen]
        # Where it is not the default, the question is why not.
        rival = next((one for one in others if one.is_default), None) or (
            (_soonest if by_time else _least_busy)(others)
        )
        reason = (_why_sooner if by_time else _why_freer)(chosen, rival)
    ids = tuple(one.device_id for one in group)
    return PlacementDecision(chosen.device_id, reason, chosen.seconds, ids)


def _class(one: Candidate) -> tuple[bool, bool, bool]:
    return one.last_choice, not one.ready, one.full


def _soonest(group: Sequence[Candidate]) -> Candidate:
    latest = min(_end(one) for one in group) * _EQUALLY_SOON
    equal = [one for one in group if _end(one) <= latest]
    return min(equal, key=lambda one: (not one.loaded, not one.is_default))


def _why_sooner(chosen: Candidate, rival: Candidate) -> PlacementReason:
    """What the chosen device gains most time by."""
    if max(_end(chosen), _end(rival)) <= min(_end(chosen), _end(rival)) * _EQUALLY_SOON:
        if chosen.loaded and not rival.loaded:
            return PlacementReason.MODEL_LOADED
        return PlacementReason.DEFAULT
    loading = (rival.load_seconds or 0.0) - (chosen.load_seconds or 0.0)
    gains = {
        PlacementReason.SHORTEST_WAIT: (rival.queue_seconds or 0.0)
        - (chosen.queue_seconds or 0.0),
        PlacementReason.MODEL_LOADED: loading if chosen.loaded else 0.0,
        PlacementReason.FASTER: (rival.work_seconds or 0.0)
        - (chosen.work_seconds or 0.0)
        + (0.0 if chosen.loaded else loading),
    }
    return max(gains, key=lambda reason: gains[reason])


def _least_busy(group: Sequence[Candidate]) -> Candidate:
    fewest = min((one.sessions, not one.loaded) for one in group)
    equal = [one for one in group if (one.sessions, not one.loaded) == fewest]
    speeds = [one.tflops for one in equal if one.tflops is not None]
    if len(speeds) == len(equal):
        least = max(speeds) * _EQUALLY_FAST
        equal = [one for one in equal if (one.tflops or 0.0) >= least]
    return min(equal, key=lambda one: not one.is_default)


def _why_freer(chosen: Candidate, rival: Candidate) -> PlacementReason:
    if chosen.sessions < rival.sessions:
        return PlacementReason.SHORTEST_WAIT
    if chosen.loaded and not rival.loaded:
        return PlacementReason.MODEL_LOADED
    if chosen.tflops and rival.tflops and rival.tflops < chosen.tflops * _EQUALLY_FAST:
        return PlacementReason.FASTER
    return PlacementReason.DEFAULT


def _end(one: Candidate) -> float:
    assert one.seconds is not None, "ends are compared only where all are known"
    return one.seconds
