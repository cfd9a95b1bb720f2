"""What a comparison came to, and whether it reached its goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.measure import (
    Ratio,
    Sample,
    common_labels,
    median,
    median_facts,
    percentile,
    ratio_of_medians,
    seconds_of,
)


@dataclass(frozen=True)
class Summary:
    """One arm's samples, in seconds, with their medians by fact."""

    arm: str
    samples: list[float]
    median: float
    p99: float
    facts: dict[str, float]
    labels: dict[str, str]


@dataclass(frozen=True)
class Goal:
    """`value` of `figure` is to be at most `limit`; both are in `unit` ("x", "ms", "s").

    `low` and `high` bound the value where it is a ratio of medians.
    """

    figure: str
    limit: float
    value: float
    unit: str
    low: float | None = None
    high: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the value keeps the limit."""
        return self.value <= self.limit

    @property
    def certain(self) -> bool:
        """Whether the limit lies outside the value's bounds; True where there are none."""
        if self.low is None or self.high is None:
            return True
        return not self.low <= self.limit <= self.high


@dataclass(frozen=True)
class Outcome:
    """One comparison of a subject with a baseline measured in the same run."""

    name: str
    title: str
    subject: Summary
    baseline: Summary
    ratio: Ratio
    goal: Goal
    settings: Mapping[str, object] = field(default_factory=dict)
    remarks: Mapping[str, object] = field(default_factory=dict)


def summarise(arm: str, samples: Sequence[Sample]) -> Summary:
    """Sum up one arm; at least one sample."""
    values = seconds_of(samples)
    return Summary(
        arm=arm,
        samples=values,
        median=median(values),
        p99=percentile(values, 99),
        facts=median_facts(samples),
        labels=common_labels(samples),
    )


def compare(
    name: str,
    title: str,
    samples: Mapping[str, Sequence[Sample]],
    *,
    subject: str,
    baseline: str,
    limit: float,
    settings: Mapping[str, object],
    remarks: Mapping[str, object] | None = None,
) -> Outcome:
    """An outcome whose goal is a ratio of medians: subject over baseline, at most `limit`."""
    ratio = ratio_of_medians(seconds_of(samples[subject]), seconds_of(samples[baseline]))
    return Outcome(
        name,
        title,
        summarise(subject, samples[subject]),
        summarise(baseline, samples[baseline]),
        ratio,
        Goal("ratio of medians", limit, ratio.value, "x", ratio.low, ratio.high),
        settings,
        remarks or {},
    )
