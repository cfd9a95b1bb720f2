"""Outcomes as a table for people and as JSON for keeping."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import Machine
from bench.outcome import Goal, Outcome

_COLUMNS = (
    "name",
    "subject",
    "baseline",
    "ratio (95 % interval)",
    "goal",
    "measured",
    "verdict",
)


@dataclass(frozen=True)
class Run:
    """Everything about a run. `disturbance` is the percentage of the machine that others
    used, by comparison; `note` says so where it was too much.
    """

    machine: Machine
    outcomes: Sequence[Outcome]
    settings: Mapping[str, object]
    disturbance: Mapping[str, float]
    note: str


def as_json(run: Run) -> dict[str, Any]:
    """A run as `write` keeps it."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": run.note,
        "settings": dict(run.settings),
        "machine": asdict(run.machine),
        "others_percent": dict(run.disturbance),
        "outcomes": [
            asdict(outcome) | {"reached": outcome.goal.reached, "certain": outcome.goal.certain}
            for outcome in run.outcomes
        ],
    }


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The table's rows, its heading first."""
    return [
        _COLUMNS,
        *(
            (
                outcome.name,
                f"{outcome.subject.arm} {_time(outcome.subject.median)}",
                f"{outcome.baseline.arm} {_time(outcome.baseline.median)}",
                f"{outcome.ratio.value:.3f} ({outcome.ratio.low:.3f} to "
                f"{outcome.ratio.high:.3f})",
                f"{outcome.goal.figure} <= {outcome.goal.limit:g} {outcome.goal.unit}",
                f"{outcome.goal.value:.3f} {outcome.goal.unit}",
                _verdict(outcome.goal),
            )
            for outcome in outcomes
        ),
    ]


def as_text(outcomes: Sequence[Outcome]) -> str:
    """The table for a terminal."""
    table = rows(outcomes)
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def as_markdown(run: Run) -> str:
    """A page with the table and what it was measured on."""
    machine, outcomes = run.machine, run.outcomes
    heading, *body = rows(outcomes)
    flags = ", ".join(flag for flag, there in machine.flags.items() if there) or "none of note"
    software = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    threading = ", ".join(f"{name}={value}" for name, value in machine.threading.items())
    lines = [
        "# What the system costs around its engine",
        "",
        "Written by `python -m bench.overhead`. Every ratio compares two arms of the same",
        "run, taken in turns; absolute figures hold for the machine below only. A verdict",
        'says "unsure" where the goal lies inside the 95 % interval.',
        "",
        f"| {' | '.join(heading)} |",
        f"|{' --- |' * len(heading)}",
        *(f"| {' | '.join(row)} |" for row in body),
        "",
        *(f"- {outcome.name}: {outcome.title}" for outcome in outcomes),
        "",
        *([f"**{run.note}**", ""] if run.note else []),
        f"Machine: {machine.processor}, {machine.cores} cores ({flags}), "
        f"{machine.memory_gib:g} GiB, {machine.system}.",
        f"Threads: {threading or 'as torch chooses'}.",
        f"Load average at the start: {', '.join(f'{load:.2f}' for load in machine.load)}; "
        f"processors in use: {machine.busy_percent:.0f} %.",
        f"Software: Python {machine.python}, {software}.",
        f"Settings: {', '.join(f'{name} {value}' for name, value in run.settings.items())}.",
    ]
    return "\n".join(lines) + "\n"


def write(path: Path, run: Run) -> None:
    """Keep a run: JSON in `path`, and the page as README.md beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(run), indent=1) + "\n")
    path.with_name("README.md").write_text(as_markdown(run))


def _time(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"


def _verdict(goal: Goal) -> str:
    verdict = "pass" if goal.reached else "FAIL"
    return verdict if goal.certain else f"{verdict}, unsure"
