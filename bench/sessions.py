"""Sessions, batches and those who watch: what they cost, each against a baseline of its run.

    python -m bench.sessions [--only NAME ...] [--quick] [--out FILE.md]

A whole measurement is put into bench/results/sessions.md in the place of the one before, a
quick one is only printed unless --out says where. Exit code 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import batches, journal, mixed, queued, resuming, watchers
from bench.sections import Section, Watched, keep

RESULTS = Path(__file__).parent / "results" / "sessions.md"
INTRODUCTION = """# Sessions, batches and those who watch

Written by `python -m bench.sessions`. Figures of one table are of one run, with its baseline;
those of other machines and times do not compare.
"""
# By name: measures, quickly or not.
SECTIONS: Mapping[str, Callable[[bool], Section]] = {
    journal.NAME: lambda quick: journal.measure(200 if quick else 10_000),
    queued.NAME: lambda quick: queued.measure(200 if quick else 10_000),
    batches.TINY.name: lambda quick: batches.measure(batches.TINY, 16 if quick else 1_000),
    batches.DEMO.name: lambda quick: batches.measure(batches.DEMO, 2 if quick else 24),
    resuming.NAME: lambda quick: resuming.measure(1 if quick else 5),
    watchers.NAME: lambda quick: watchers.measure(10 if quick else 100, 1 if quick else 3),
    mixed.NAME: lambda quick: mixed.measure(*((100, 60.0) if quick else (10_000, 1_000.0))),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m bench.sessions")
    parser.add_argument("--only", action="append", choices=[*SECTIONS])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    out = options.out or (None if options.quick else RESULTS)
    reached = True
    for name in options.only or SECTIONS:
        command = f"python -m bench.sessions --only {name}{' --quick' * options.quick}"
        watched = Watched()
        section = SECTIONS[name](options.quick)
        page = "\n".join(watched.lines(section, command))
        print(page, flush=True)
        reached &= section.reached
        if out is not None:
            keep(out, INTRODUCTION, {name: page}, [*SECTIONS])
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
