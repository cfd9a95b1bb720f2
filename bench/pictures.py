"""Whole pictures: through the server, by its engine alone, by diffusers' pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.client import draw
from bench.measure import Arm, Sample, interleave, median
from bench.outcome import Outcome, compare
from bench.peers import peer
from bench.work import work_of_round
from tests.running import start_server

STEPS = 20
WARM_UPS = 2


async def server_against_engine(rounds: int, steps: int = STEPS) -> Outcome:
    """What gRPC, the front, the worker's link, spool and artifact store add to the engine."""
    return await _compare(
        "server-vs-engine",
        "a streamed picture through the server, against the same engine in a process alone",
        "exact",
        "engine",
        limit=1.02,
        rounds=rounds,
        steps=steps,
    )


async def exact_against_diffusers(rounds: int, steps: int = STEPS) -> Outcome:
    """The server in exact precision, which draws the same bits, against the pipeline."""
    return await _compare(
        "exact-vs-diffusers",
        "a streamed picture through the server in exact precision, against diffusers' "
        "pipeline in float32 and Pillow's PNG",
        "exact",
        "diffusers",
        limit=0.95,
        rounds=rounds,
        steps=steps,
    )


async def fastest_against_diffusers(rounds: int, steps: int = STEPS) -> Outcome:
    """The server in its fastest numbers, whichever those are here, against the pipeline."""
    return await _compare(
        "fastest-vs-diffusers",
        "a streamed picture through the server in its fastest precision, against "
        "diffusers' pipeline in float32 and Pillow's PNG",
        "fastest",
        "diffusers",
        limit=0.70,
        rounds=rounds,
        steps=steps,
    )


async def _compare(
    name: str,
    title: str,
    precision: str,
    baseline: str,
    *,
    limit: float,
    rounds: int,
    steps: int,
) -> Outcome:
    """A server with a worker, and a peer, in turns; the one that waits costs nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client, peer(baseline) as other:
            subject = f"server {precision}"

            async def served(number: int) -> Sample:
                return await draw(client, work_of_round(number, steps), precision)

            async def alone(number: int) -> Sample:
                return await other.draw(work_of_round(number, steps))

            samples = await interleave(
                [Arm(subject, served), Arm(baseline, alone)],
                rounds=rounds,
                warm_ups=WARM_UPS,
            )
            threads = other.threads
    same = [
        ours.labels["pixels"] == theirs.labels["pixels"]
        for ours, theirs in zip(samples[subject], samples[baseline], strict=True)
    ]
    return compare(
        name,
        title,
        {arm: [_without_pixels(sample) for sample in taken] for arm, taken in samples.items()},
        subject=subject,
        baseline=baseline,
        limit=limit,
        settings=work_of_round(0, steps).settings()
        | {"rounds": rounds, "warm_ups": WARM_UPS, "threads": threads},
        remarks={
            "same_pixels": f"{sum(same)} of {len(same)}",
            **_where_time_goes(samples[subject], samples[baseline]),
        },
    )


def _without_pixels(sample: Sample) -> Sample:
    labels = {name: text for name, text in sample.labels.items() if name != "pixels"}
    return Sample(sample.seconds, sample.facts, labels)


def _where_time_goes(ours: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, float]:
    """Median differences per round in milliseconds, where both arms tell their phases."""
    if not all(sample.facts for sample in theirs):
        return {}
    phases = [name for name in theirs[0].facts if name in ours[0].facts]

    def outside(sample: Sample) -> float:
        return sample.seconds - sum(sample.facts[name] for name in phases)

    pairs = list(zip(ours, theirs, strict=True))
    differences = {
        f"more_{name}_ms": median([a.facts[name] - b.facts[name] for a, b in pairs])
        for name in phases
    }
    differences["more_outside_engine_ms"] = median([outside(a) - outside(b) for a, b in pairs])
    return {name: round(value * 1000, 2) for name, value in differences.items()}
