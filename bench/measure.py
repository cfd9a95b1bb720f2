"""Interleaved arms and what their samples say: medians, percentiles, ratios with bounds.

Arms take turns in the order A B B A, so that a machine that slows down or speeds up
during the run does so for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_RESAMPLES = 4000
_CONFIDENCE_PERCENT = 95.0


@dataclass(frozen=True)
class Sample:
    """One run of one arm.

    `facts` are figures about it, in seconds where nothing else is said; `labels` say what
    it was (a data type, the hash of a picture).
    """

    seconds: float
    facts: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One side of a comparison; `run` is given the number of the round."""

    name: str
    run: Callable[[int], Awaitable[Sample]]


@dataclass(frozen=True)
class Ratio:
    """A quotient of medians and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


async def interleave(
    arms: Sequence[Arm], *, rounds: int, warm_ups: int
) -> dict[str, list[Sample]]:
    """Run every arm once per round, in turns; samples by arm, in the order of rounds.

    Args:
        arms: With names of their own.
        rounds: At least one. Round k gives every arm the number k.
        warm_ups: Rounds before, numbered from -1 downwards, whose samples are dropped.
    """
    samples: dict[str, list[Sample]] = {arm.name: [] for arm in arms}
    assert len(samples) == len(arms), "two arms have the same name"
    for number in range(-warm_ups, 0):
        for arm in arms:
            await arm.run(number)
    for number in range(rounds):
        for arm in arms if number % 2 == 0 else reversed(arms):
            samples[arm.name].append(await arm.run(number))
    return samples


def seconds_of(samples: Sequence[Sample]) -> list[float]:
    """The seconds of every sample."""
    return [sample.seconds for sample in samples]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, interpolated."""
    return float(np.percentile(values, percent))


def median(values: Sequence[float]) -> float:
    """The value in the middle."""
    return percentile(values, 50)


def ratio_of_medians(subject: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """How many times `baseline` the subject takes, resampling rounds for the bounds.

    Args:
        subject: One value per round.
        baseline: One value per round, in the same order: a round's two values belong
            together, as what disturbed one may have disturbed the other.
    """
    assert len(subject) == len(baseline) > 0
    ours, theirs = np.asarray(subject), np.asarray(baseline)
    draws = np.random.default_rng(0).integers(0, len(ours), (_RESAMPLES, len(ours)))
    ratios = np.median(ours[draws], axis=1) / np.median(theirs[draws], axis=1)
    tail = (100 - _CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Ratio(median(subject) / median(baseline), float(low), float(high))


def median_facts(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of every fact that all samples have."""
    names = [name for name in samples[0].facts if all(name in s.facts for s in samples)]
    return {name: median([sample.facts[name] for sample in samples]) for name in names}


def common_labels(samples: Sequence[Sample]) -> dict[str, str]:
    """Every label of the samples, with all its values if they differ."""
    names = {name: None for sample in samples for name in sample.labels}
    return {
        name: " ".join(dict.fromkeys(sample.labels.get(name, "-") for sample in samples))
        for name in names
    }
