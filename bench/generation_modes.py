"""The engine against diffusers' pipelines, mode by mode, on this machine's processor.

    python -m bench.generation_modes [--rounds N] [--only TEXT] [--out FILE.md]

draws each mode with both, in one process and in turns, and tells what previews add to the own
time of the engine. Both make a PNG file. A step is what passes from a call of a UNet to the
next one, measured alike for both. Processor seconds are those of the whole process: other work
changes them less than seconds on the wall, least of all with OMP_NUM_THREADS=1, as a thread
that waits for another works while it waits.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.machine import Machine, Others, busy_note, describe_machine
from bench.measure import Arm, Sample, interleave, median, ratio_of_medians, seconds_of
from bench.mode_inputs import Shape
from bench.mode_pairs import Draw, Pair, pairs
from bench.unet_calls import Calls, Taken, noted_calls
from bench.work import pixel_hash

_SHAPE = Shape(steps=10, edge=256)
_MS, _S = ("ms", 1_000.0), ("s", 1.0)


@dataclass(frozen=True)
class Compared:
    """A mode's samples of both, a round each, in the same order."""

    ours: Sequence[Sample]
    theirs: Sequence[Sample]

    @property
    def same(self) -> int:
        """How many pictures have the same pixels."""
        return sum(
            one.labels["pixels"] == other.labels["pixels"]
            for one, other in zip(self.ours, self.theirs, strict=True)
        )


async def measure(modes: Mapping[str, Pair], rounds: int, calls: Calls) -> dict[str, Compared]:
    """Draw so many rounds of each mode, after one that does not count.

    Samples are the seconds of a whole picture; facts beside `processor`, of which that has
    so many, are `step` and `step_processor`; their label is the hash of the `pixels`.
    """
    found = {}
    for name, (ours, theirs) in modes.items():
        arms = [_arm("engine", ours, calls), _arm("baseline", theirs, calls)]
        samples = await interleave(arms, rounds=rounds, warm_ups=1)
        found[name] = Compared(samples["engine"], samples["baseline"])
        print(name, file=sys.stderr, flush=True)
    return found


def _arm(name: str, draw: Draw, calls: Calls) -> Arm:
    async def run(number: int) -> Sample:
        calls.forget()
        began = Taken.now()
        file = draw(number)
        whole, step = Taken.now() - began, calls.per_step()
        facts = {
            "processor": whole.processor,
            "step": step.wall,
            "step_processor": step.processor,
            "calls": calls.count,
        }
        return Sample(whole.wall, facts, {"pixels": pixel_hash(file)})

    return Arm(name, run)


def report(found: Mapping[str, Compared], machine: Machine, others: float, shape: Shape) -> str:
    """As Markdown; `others` is the percentage of the machine that others used."""
    rounds = len(next(iter(found.values())).ours)
    lines = [
        "# Modes of generation, beside diffusers",
        "",
        "Written by `python -m bench.generation_modes`.",
        "",
        f"{machine.processor}, {machine.cores} cores, {torch.get_num_threads()} threads; "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        "",
        f"The demo model in float32, pictures of {shape.edge}x{shape.edge} in {shape.steps} "
        f"steps of Euler with guidance; medians of {rounds} rounds in turn.",
        "",
        busy_note(machine, {"all": others}) or "The machine had little other work.",
        "",
        "## A step of the loop",
        "",
        *_table(found, _MS, "step", "step_processor"),
        "",
        "## From the request to the file",
        "",
        *_table(found, _S, "", "processor"),
        "",
        "## Pictures with the same pixels",
        "",
        *(f"- {name}: {each.same} of {rounds}" for name, each in found.items()),
        "",
    ]
    return "\n".join(lines)


def _table(
    found: Mapping[str, Compared], unit: tuple[str, float], wall: str, processor: str
) -> list[str]:
    """Ratios are the engine's share of the baseline's; below 1 it is faster."""
    name, factor = unit
    lines = [
        f"| mode | engine, {name} | baseline, {name} | ratio (95 % interval) "
        f"| engine, CPU {name} | baseline, CPU {name} | ratio (95 % interval) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for mode, each in found.items():
        cells = [mode]
        for fact in (wall, processor):
            ours, theirs = (_values(samples, fact) for samples in (each.ours, each.theirs))
            ratio = ratio_of_medians(ours, theirs)
            cells += [f"{factor * median(values):.4g}" for values in (ours, theirs)]
            cells += [f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _values(samples: Sequence[Sample], fact: str) -> list[float]:
    return [sample.facts[fact] for sample in samples] if fact else seconds_of(samples)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and keep the report."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.generation_modes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", default="", help="modes with this in their name")
    parser.add_argument("--out", type=Path, help="where to keep the report")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    machine, others = describe_machine(), Others()
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        torch.no_grad(),
        noted_calls() as calls,
    ):
        modes = {
            name: pair
            for name, pair in pairs(_SHAPE, Path(folder)).items()
            if options.only in name
        }
        if not modes:
            parser.error(f"--only: no mode has {options.only!r} in its name")
        found = asyncio.run(measure(modes, options.rounds, calls))
    text = report(found, machine, others.percent(), _SHAPE)
    print(text, end="")
    if options.out is not None:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
