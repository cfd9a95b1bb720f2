"""What chains of finishing steps cost, beside the same steps in plain Pillow, NumPy and torch.

    python -m bench.chain [--rounds 7] [--edge 512] [--only NAME] [--served] [--out FILE.md]

Needs the demo upscalers alone, and the processor. Both ways do the same steps on the same
picture in turns, in one process, files made; what comes of them is compared as well. With
--served a server with a worker does them too, over gRPC: its time is from the call to the end
of the stream, picture and all. OPENBLAS_NUM_THREADS=1 is how workers run.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.chain_ways import Chain, Pixels, by_executor, by_hand, chains
from bench.machine import Others, busy_note, describe_machine
from bench.measure import Arm, Sample, interleave, median, ratio_of_medians, seconds_of
from bench.upscaling_ways import synthetic
from deviceops.v1 import common_pb2, finishing_pb2, postprocessing_pb2
from domains.chain.types import LutStep
from domains.values import ImageFileFormat
from tests.running import Client, start_server

_FORMATS = {
    ImageFileFormat.PNG: common_pb2.IMAGE_FILE_FORMAT_PNG,
    ImageFileFormat.JPEG: common_pb2.IMAGE_FILE_FORMAT_JPEG,
}
GOAL = 1.05
"""What the executor may take of the plain way."""


@dataclass(frozen=True)
class Taken:
    """What a chain took in each way, in seconds by round, and by how much a level of the two
    ways' results differs at most."""

    chain: Chain
    samples: Mapping[str, list[Sample]]
    apart: int

    def row(self) -> str:
        """Of the table."""
        ours, theirs = seconds_of(self.samples["executor"]), seconds_of(self.samples["plain"])
        found = ratio_of_medians(ours, theirs)
        worked, work = (
            median([each.facts["processor"] for each in self.samples[way]])
            for way in ("executor", "plain")
        )
        verdict = "pass" if found.value <= GOAL else "FAIL"
        served = self.samples.get("served")
        return (
            f"| {self.chain.name} | {1e3 * median(theirs):.1f} | {1e3 * median(ours):.1f}"
            f" | {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) | {verdict}"
            f" | {worked / work:.3f}"
            f" | {f'{1e3 * median(seconds_of(served)):.1f}' if served else ''} | {self.apart} |"
        )


async def measure(
    chain: Chain, pixels: Pixels, rounds: int, client: Client | None = None
) -> Taken:
    """A chain in every way; `client` is one of a server that is to do it as well."""
    ours, theirs = by_executor(chain, pixels)[0], by_hand(chain, pixels)[0]
    apart = int(np.abs(ours.astype(int) - theirs).max())
    assert apart <= chain.apart, f"{chain.name}: levels are {apart} apart"

    async def run(way: Callable[[Chain, Pixels], object], number: int) -> Sample:
        began, worked = time.perf_counter(), time.process_time()
        way(chain, pixels)
        seconds = time.perf_counter() - began
        return Sample(seconds, {"processor": time.process_time() - worked})

    arms = [Arm("executor", partial(run, by_executor)), Arm("plain", partial(run, by_hand))]
    if client is not None:
        request = _request(chain, pixels)
        arms.append(Arm("served", lambda number: _served(client, request)))
    return Taken(chain, await interleave(arms, rounds=rounds, warm_ups=1), apart)


def can_be_served(chain: Chain) -> bool:
    """Whether the chain names nothing that a server would have to be given before."""
    return not any(isinstance(step, LutStep) for step in chain.steps)


def _request(chain: Chain, pixels: Pixels) -> postprocessing_pb2.ProcessImageRequest:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    request = postprocessing_pb2.ProcessImageRequest()
    request.image.inline = file.getvalue()
    request.output.format = _FORMATS[chain.format]
    for step in chain.steps:
        message = finishing_pb2.PostprocessingStep()
        own = getattr(message, step.field)
        own.SetInParent()
        for name in own.DESCRIPTOR.fields_by_name:
            if isinstance(getattr(step, name, None), int | float | str):
                setattr(own, name, getattr(step, name))
        request.steps.append(message)
    return request


async def _served(client: Client, request: postprocessing_pb2.ProcessImageRequest) -> Sample:
    began = time.perf_counter()
    data = b""
    async for response in client.postprocessing.ProcessImage(request, metadata=client.metadata):
        data += response.event.image_chunk.data
    assert data, "no picture came"
    return Sample(time.perf_counter() - began)


async def measured(
    found: Sequence[Chain], pixels: Pixels, rounds: int, *, served: bool
) -> list[Taken]:
    """All of them, one after another."""
    if not served:
        return [await measure(chain, pixels, rounds) for chain in found]
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as server,
    ):
        async with server.client() as client:
            return [
                await measure(chain, pixels, rounds, client if can_be_served(chain) else None)
                for chain in found
            ]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.chain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--edge", type=int, default=512, help="Of the picture, in pixels.")
    parser.add_argument("--only", default="", help="Chains whose name has this in it.")
    parser.add_argument("--served", action="store_true", help="Over gRPC as well.")
    parser.add_argument("--out", type=Path, help="Where the report is written.")
    options = parser.parse_args(arguments)
    machine, others = describe_machine(), Others()
    with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder:
        found = [
            chain for chain in chains(options.edge, Path(folder)) if options.only in chain.name
        ]
        if not found:
            parser.error(f"no chain has {options.only!r} in its name")
        pixels = synthetic(options.edge)
        taken = asyncio.run(measured(found, pixels, options.rounds, served=options.served))
    note = busy_note(machine, {"run": others.percent()})
    lines = [
        "# What chains of finishing steps cost",
        "",
        "Written by `python -m bench.chain`.",
        "",
        f"A picture of {options.edge} x {options.edge} pixels; files are made. Plain is "
        "Pillow, NumPy, SciPy and the network's plain call.",
        f"The goal is {GOAL} of it for the server's executor in the same process.",
        "",
        "| Chain | plain, ms | executor, ms | ratio (95 % interval) | goal | of its processor "
        "time | over gRPC, ms | levels apart |",
        "|---|---|---|---|---|---|---|---|",
        *(each.row() for each in taken),
        "",
        *([f"**{note}**", ""] if note else []),
        f"{machine.processor}, {machine.cores} cores, {torch.get_num_threads()} threads; torch "
        f"{machine.packages['torch']}, pillow {machine.packages['pillow']}, numpy "
        f"{machine.packages['numpy']}. {options.rounds} rounds, ways in turns.",
    ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
