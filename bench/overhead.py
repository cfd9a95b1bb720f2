"""What the system costs around its engine, as ratios against baselines of the same run.

    python -m bench.overhead [--quick] [--only NAME] [--out FILE.json]

Without --out a whole run is kept in bench/results/overhead.json, with a page beside it;
a quick or partial one is only printed. Exit code 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import report
from bench.cancel import cancel_to_idle
from bench.first_event import first_event_latency
from bench.machine import Others, busy_note, describe_machine
from bench.outcome import Outcome
from bench.pictures import (
    exact_against_diffusers,
    fastest_against_diffusers,
    server_against_engine,
)
from bench.start import start_to_serving
from bench.turns import pause_and_resume, yield_to_urgent

RESULTS = Path(__file__).parent / "results" / "overhead.json"


@dataclass(frozen=True)
class Comparison:
    """One entry of the list below; `measure` is given the number of rounds."""

    measure: Callable[[int], Awaitable[Outcome | list[Outcome]]]
    rounds: int
    quick_rounds: int


COMPARISONS: dict[str, Comparison] = {
    "server-vs-engine": Comparison(server_against_engine, 30, 4),
    "exact-vs-diffusers": Comparison(exact_against_diffusers, 30, 4),
    "fastest-vs-diffusers": Comparison(fastest_against_diffusers, 30, 4),
    "first-event": Comparison(first_event_latency, 300, 30),
    "cancel": Comparison(cancel_to_idle, 60, 6),
    "yield": Comparison(yield_to_urgent, 60, 6),
    "pause": Comparison(pause_and_resume, 30, 4),
    "start": Comparison(start_to_serving, 20, 3),
}


async def run(names: Sequence[str], *, quick: bool) -> tuple[list[Outcome], dict[str, float]]:
    """Measure the named comparisons, one after another, printing each when it is done.

    Returns:
        What they came to, and the share of the machine that others used meanwhile, in
        percent by comparison.
    """
    disturbance: dict[str, float] = {}
    outcomes: list[Outcome] = []
    for name in names:
        comparison = COMPARISONS[name]
        others = Others()
        measured = await comparison.measure(
            comparison.quick_rounds if quick else comparison.rounds
        )
        disturbance[name] = round(others.percent(), 1)
        fresh = measured if isinstance(measured, list) else [measured]
        for outcome in fresh:
            _print(outcome)
        outcomes += fresh
        print(f"  others used {disturbance[name]:.0f} % of the machine meanwhile")
    return outcomes, disturbance


def _print(outcome: Outcome) -> None:
    print(f"\n{outcome.name}: {outcome.title}")
    for arm in (outcome.subject, outcome.baseline):
        facts = " ".join(f"{name}={value:.4f}" for name, value in arm.facts.items())
        labels = " ".join(f"{name}={text}" for name, text in arm.labels.items())
        print(f"  {arm.arm}: median {arm.median:.4f} s, p99 {arm.p99:.4f} s  {facts} {labels}")
    for name, value in outcome.remarks.items():
        print(f"  {name}: {value}")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, keep the results; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work?")
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="may be repeated")
    parser.add_argument("--out", type=Path, help="where to keep the results, as JSON")
    options = parser.parse_args(arguments)
    whole = not options.quick and not options.only
    out = options.out or (RESULTS if whole else None)
    machine = describe_machine()
    names = options.only or list(COMPARISONS)
    outcomes, disturbance = asyncio.run(run(names, quick=options.quick))
    print("\n" + report.as_text(outcomes))
    note = busy_note(machine, disturbance)
    if note:
        print("\n" + note)
    if out is not None:
        settings = {"quick": options.quick, "arms": "interleaved A B B A"}
        record = report.Run(machine, outcomes, settings, disturbance, note)
        report.write(out, record)
    return 0 if all(outcome.goal.reached for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
