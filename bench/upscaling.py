"""What tiles cost and save when pictures are enlarged, beside the network's plain call.

    python -m bench.upscaling [--rounds 5] [--edge 384] [--out FILE.md]

Needs the demo upscalers alone, and the processor. All ways enlarge the same picture in turns,
in one process: the network called once on the whole picture, the whole picture as one tile, and
tiles as they are chosen for a request. Memory is the most that the process took beyond what it
had before, result and all.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import torch

from bench.machine import Others, busy_note, describe_machine
from bench.upscaling_ways import WAYS, Way, plain_call, synthetic
from domains import heap
from domains.chain.backends.upscaling.enlarging import PassMade, enlarge
from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.backends.upscaling.tiled import Pixels
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.device.backends.torch_gauge import stretch_on
from domains.model.core.enlarging import tile_bytes
from domains.values import ModelPlace

RESULTS = Path(__file__).parent / "results" / "upscaling.md"
_MODELS = Path(__file__).resolve().parent.parent / "demo" / "models"
_CPU = torch.device("cpu")
_MIB = 2**20


def _peak(way: Way, upscaler: Upscaler, pixels: Pixels) -> int:
    heap.collect_and_trim()
    before = int(psutil.Process().memory_info().rss)
    stretch = stretch_on(_CPU)
    way(upscaler, pixels)
    return (stretch.peak().value or 0) - before


def _measured(upscaler: Upscaler, pixels: Pixels, rounds: int) -> list[str]:
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    peaks = {name: _peak(way, upscaler, pixels) for name, way in WAYS.items()}
    for number in range(rounds):
        for name in WAYS if number % 2 else reversed(WAYS):
            began = time.perf_counter()
            WAYS[name](upscaler, pixels)
            seconds[name].append(time.perf_counter() - began)
    least = statistics.median(seconds["plain call"]), peaks["plain call"]
    lines = []
    for name in WAYS:
        took, peak = statistics.median(seconds[name]), peaks[name]
        lines.append(
            f"| {name} | {took:.2f} | {took / least[0]:.2f} | {peak / _MIB:.0f} "
            f"| {peak / least[1]:.2f} |"
        )
    made: list[PassMade] = []
    tiled = enlarge(upscaler, pixels, upscaler.factor, tell=made.append)
    apart = np.abs(tiled.astype(int) - plain_call(upscaler, pixels))
    tile, edge = made[0].tile_pixels, len(pixels)
    numbers, number_bytes = upscaler.numbers_per_pixel, upscaler.data_type.itemsize
    stated = tile_bytes((tile, tile), edge, upscaler.factor, numbers, number_bytes) / _MIB
    lines += [
        "",
        f"{made[0].tiles} tiles of at most {tile} pixels, estimated at {stated:.0f} MiB. "
        f"A level differs from the plain call's by at most {apart.max()}.",
    ]
    return lines


def main(arguments: Sequence[str]) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.upscaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--edge", type=int, default=384, help="Of the picture, in pixels.")
    parser.add_argument("--out", type=Path, help="Where the report is written.")
    options = parser.parse_args(arguments)
    others, machine = Others(), describe_machine()
    lines = ["# Enlarging in tiles on the processor", "", "By `python -m bench.upscaling`."]
    for factor in (2, 4):
        place = ModelPlace.of(_MODELS / f"compact-{factor}x.safetensors")
        lines += [
            "",
            f"## compact-{factor}x, {options.edge} x {options.edge} pixels",
            "",
            "| | s | of the plain call | MiB at the peak | of the plain call |",
            "|---|---|---|---|---|",
            *_measured(load_upscaler(place, _CPU), synthetic(options.edge), options.rounds),
        ]
    note = busy_note(machine, {"run": others.percent()})
    lines += [
        "",
        *([f"**{note}**", ""] if note else []),
        f"{machine.processor}, {machine.cores} cores, {torch.get_num_threads()} threads; torch "
        f"{machine.packages['torch']}. Medians of {options.rounds} rounds, ways in turns.",
    ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
