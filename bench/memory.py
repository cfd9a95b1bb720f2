"""What memory's calls and copies cost, as ratios against baselines of the same run.

    python -m bench.memory [--quick] [--device ID] [--out FILE.md]

Without --out a whole run is kept in bench/results/memory.md; a quick one is only printed.
Exit code 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.copies import MIB, copy_throughput
from bench.machine import Machine, Others, busy_note, describe_machine
from bench.memory_calls import memory_calls
from bench.outcome import Outcome

RESULTS = Path(__file__).parent / "results" / "memory.md"


async def run(*, quick: bool, device_id: str) -> list[Outcome]:
    """Measure everything, one after another."""
    copies = []
    for size in (64, 256, 1024):
        rounds = 8 if quick else 40
        copies += await copy_throughput(rounds, size * MIB, device_id)
    return [*copies, *await memory_calls(20 if quick else 300)]


def as_markdown(machine: Machine, outcomes: Sequence[Outcome], note: str) -> str:
    """The table, what was measured, and on what."""
    heading, *body = report.rows(outcomes)
    lines = [
        "# What memory's calls and copies cost",
        "",
        "Written by `python -m bench.memory`. Every ratio compares two arms of the same run;",
        "absolute figures hold for the machine below only.",
        "",
        f"| {' | '.join(heading)} |",
        f"|{' --- |' * len(heading)}",
        *(f"| {' | '.join(row)} |" for row in body),
        "",
        *(f"- {outcome.name}: {outcome.title}{_remarks(outcome)}" for outcome in outcomes),
        "",
        *([f"**{note}**", ""] if note else []),
        f"Machine: {machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}. Python {machine.python}, torch {machine.packages['torch']}, "
        f"grpcio {machine.packages['grpcio']}.",
    ]
    return "\n".join(lines) + "\n"


def _remarks(outcome: Outcome) -> str:
    speeds = [
        f"{arm.arm} {arm.facts['gbps']:.2f} GB/s"
        for arm in (outcome.subject, outcome.baseline)
        if "gbps" in arm.facts
    ]
    parts = speeds + [f"{name} {value}" for name, value in outcome.remarks.items()]
    return f" ({', '.join(parts)})" if parts else ""


def main(arguments: Sequence[str]) -> int:
    """Measure, print, keep; 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work?")
    parser.add_argument("--device", default="cpu:0", help="the device to copy to and from")
    parser.add_argument("--out", type=Path, help="where to keep the page")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    others = Others()
    outcomes = asyncio.run(run(quick=options.quick, device_id=options.device))
    note = busy_note(machine, {"all": others.percent()})
    page = as_markdown(machine, outcomes, note)
    print(page)
    out = options.out or (None if options.quick else RESULTS)
    if out is not None:
        out.write_text(page)
    return 0 if all(outcome.goal.reached for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
