"""Where the time of a load from disk goes, in one process and without a server, as JSON.

`python -m bench.model_phases --device cuda:0 FOLDER` makes an SDXL checkpoint of 6.9 GB with
random numbers there and loads it again and again; `bench.models` tells what clients see of it.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import math
import mmap
import os
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.model_files import random_model
from domains.inference.backends import model_loading, read_ahead
from domains.inference.backends.device import release_memory, synchronize
from domains.inference.backends.weight_source import WeightSource
from domains.inference.types import PrecisionMode
from domains.model.backends.networks import EmptyNetwork
from domains.values import ModelPlace

_THREADS = (4, 8, 12)
Result = TypeVar("Result")


def _never() -> None:
    return None


class Phases:
    """Seconds of each phase of loads, by the phase's name."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, act: Callable[[], Result]) -> Result:
        """Do it, with the device's share, and note how long that took."""
        synchronize(self._device)
        began = time.perf_counter()
        result = act()
        synchronize(self._device)
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        return result

    def medians(self) -> dict[str, float]:
        """Of all but the first of each, which is slower."""
        return {
            name: round(statistics.median(times[1:] or times), 4)
            for name, times in self.seconds.items()
        }


def load(place: ModelPlace, device: torch.device, phases: Phases) -> None:
    """Once, and let it go."""
    prepared = phases.time(
        "prepare",
        lambda: model_loading.prepare_model(
            "one", place, PrecisionMode.OPEN, device, check_stop=_never
        ),
    )
    source = WeightSource(None, lends=device.type != "cpu")

    def fill(empty: tuple[EmptyNetwork, ...]) -> None:
        model_loading.load_weights(
            prepared, empty, source, emit=lambda _: None, check_stop=_never
        )

    networks = phases.time(
        "build", lambda: model_loading.build_networks(prepared, check_stop=_never)
    )
    phases.time("fill", partial(fill, networks))
    del networks
    phases.time("let go", lambda: release_memory(device))


def read(place: ModelPlace, device: torch.device) -> None:
    """The same bytes in the same order, and nothing made of them."""
    prepared = model_loading.prepare_model(
        "one", place, PrecisionMode.OPEN, device, check_stop=_never
    )
    for network in prepared.plan.networks:
        for file in network.files:
            with read_ahead.read_ahead(file) as opened:
                entries = network.entries(file).values()
                pieces = sorted((entry.offset, entry.size_bytes) for entry in entries)
                opened.announce(pieces)
                for offset, length in pieces:
                    opened.lend(offset, length)


def take(place: ModelPlace, device: torch.device) -> list[torch.Tensor]:
    """Memory for each tensor, and nothing put there."""
    prepared = model_loading.prepare_model(
        "one", place, PrecisionMode.OPEN, device, check_stop=_never
    )
    return [
        torch.empty(origin.shape, dtype=torch.float16, device=device)
        for network in prepared.plan.networks
        for origin in network.tensors.values()
    ]


def copy(sizes: list[int], device: torch.device, phases: Phases) -> None:
    """The same bytes to the device in one piece and tensor by tensor, out of page-locked memory
    of the driver's own and of memory that processes share, locked afterwards."""
    total = sum(sizes)
    target = torch.empty(total, dtype=torch.uint8, device=device)
    own = torch.empty(total, dtype=torch.uint8, pin_memory=True)
    handle = os.memfd_create("bench")
    os.truncate(handle, total)
    shared = torch.frombuffer(mmap.mmap(handle, total), dtype=torch.uint8)
    shared.fill_(1)
    cudart: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    for name, source in (("driver's", own), ("shared", shared)):
        if source is shared:
            assert not int(cudart.cudaHostRegister(shared.data_ptr(), total, 0))
        pairs = list(zip(source.split(sizes), target.split(sizes), strict=True))

        def by_tensor(pairs: list[tuple[torch.Tensor, torch.Tensor]] = pairs) -> None:
            for one, other in pairs:
                other.copy_(one, non_blocking=True)

        for _ in range(4):
            phases.time(f"{name}, whole", lambda: target.copy_(source, non_blocking=True))  # noqa: B023
            phases.time(f"{name}, by tensor", by_tensor)
    cudart.cudaHostUnregister(shared.data_ptr())


def profile(act: Callable[[], Any]) -> str:
    """What took longest, as a table."""
    watching = cProfile.Profile()
    watching.runcall(act)
    text = io.StringIO()
    pstats.Stats(watching, stream=text).sort_stats("tottime").print_stats(25)
    return text.getvalue()


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object; a profile goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.model_phases", description=__doc__)
    parser.add_argument("folder", type=Path, help="Where the checkpoint is put, and stays.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    place, device = random_model(given.folder), torch.device(given.device)
    found: dict[str, Any] = {}
    for threads in _THREADS:
        read_ahead.THREADS = threads
        phases = Phases(device)
        for _ in range(given.rounds):
            load(place, device, phases)
            phases.time("read", lambda: read(place, device))
            kept = phases.time("take", lambda: take(place, device))
            kept.clear()
            release_memory(device)
        found[f"{threads} threads"] = phases.medians()
        print(json.dumps(found), file=sys.stderr, flush=True)
    if device.type == "cuda":
        prepared = model_loading.prepare_model(
            "one", place, PrecisionMode.OPEN, device, check_stop=_never
        )
        networks = prepared.plan.networks
        entries = [one for network in networks for one in network.tensors.values()]
        phases = Phases(device)
        copy([2 * math.prod(one.shape) for one in entries], device, phases)
        found["copies"] = phases.medians()
    print(profile(lambda: load(place, device, Phases(device))), file=sys.stderr)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
