"""Disk to main memory: the cache against safetensors' load_file, page cache warm, as JSON.

`python -m bench.model_cache` writes two files of random numbers and reads them in turns: into
pages that the model before left (what a switch between models does), into fresh pages (what
the first models of a server do), and with `load_file` and a copy of every tensor, since a file
that is only mapped has not been read. Then two hundred models come and go.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file, save_file

from bench.measure import Arm, Sample, interleave, ratio_of_medians, seconds_of
from domains.device.core.facts import TransientFacts
from domains.memory.backends.host import HostMemoryMeter
from domains.model.backends.arena import Arena, arena_bytes
from domains.model.backends.weight_reading import ParallelReader
from domains.model.backends.weight_states import WeightStates
from domains.model.core.cache import ModelCache
from domains.model.core.cache_budget import CacheBudget
from domains.model.core.cache_memory import CacheMemory
from domains.values import ModelPlace

MIB = 1 << 20
_TENSORS = 64
_CYCLES = 200
_NAMES = ("one.safetensors", "two.safetensors")


class Reading:
    """A cache that has room for one of two files.

    Args:
        folder: Where they lie.
        size: Of each, in bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        budget = CacheBudget(TransientFacts(), size + size // 2, has_cards=lambda: True)
        main = HostMemoryMeter()
        self.memory = CacheMemory(
            budget,
            main,
            lambda wanted, total: Arena(arena_bytes(wanted, total)),
            spared=0.0,
        )
        self.cache = ModelCache(
            ParallelReader(), self.memory, WeightStates(), now=lambda: datetime.now(UTC)
        )

    async def into_pages_that_are_there(self, number: int) -> Sample:
        """The other one of the two, in place of that before."""
        name = _NAMES[number % 2]
        await self._keep(_NAMES[(number + 1) % 2])
        return await self._timed(name)

    async def into_fresh_pages(self, number: int) -> Sample:
        """One of the two, into an empty cache."""
        for name in _NAMES:
            await self.cache.evict(name)
        return await self._timed(_NAMES[number % 2])

    async def load_file(self, number: int) -> Sample:
        """One of the two, as the library reads it."""
        path = self._folder / _NAMES[number % 2]
        began = time.perf_counter()
        tensors = await asyncio.to_thread(_read, path)
        took = time.perf_counter() - began
        del tensors
        return Sample(took)

    async def cycles(self, count: int) -> dict[str, float]:
        """What this process holds more after so many models came and went."""
        await self._keep(_NAMES[0])
        await self.cache.evict(_NAMES[0])
        process = psutil.Process()
        before = process.memory_info().rss
        for number in range(count):
            await self._keep(_NAMES[number % 2])
            if number % 3 == 0:
                await self.cache.evict(_NAMES[number % 2])
        for name in _NAMES:
            await self.cache.evict(name)
        arena = self.memory.arena
        assert isinstance(arena, Arena)
        return {
            "cycles": count,
            "resident_mib_more": (process.memory_info().rss - before) / MIB,
            "arena_mib": arena.taken_bytes() / MIB,
        }

    async def _keep(self, name: str) -> None:
        lease = await self.cache.lease(name, ModelPlace(self._folder, Path(name)), fill=True)
        assert lease is not None
        await lease.follow(lambda progress: None)
        lease.end()
        await self.memory.settle()

    async def _timed(self, name: str) -> Sample:
        began = time.perf_counter()
        await self._keep(name)
        return Sample(time.perf_counter() - began)


def _read(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


async def measure(folder: Path, size: int, rounds: int) -> dict[str, object]:
    """Read files of `size` bytes in turns, as often as `rounds` says."""
    for name in _NAMES:
        numbers = torch.randint(0, 256, (_TENSORS, size // _TENSORS), dtype=torch.uint8)
        save_file({str(index): row.clone() for index, row in enumerate(numbers)}, folder / name)
    reading = Reading(folder, size)
    arms = [
        Arm("reused", reading.into_pages_that_are_there),
        Arm("fresh", reading.into_fresh_pages),
        Arm("load_file", reading.load_file),
    ]
    try:
        samples = await interleave(arms, rounds=rounds, warm_ups=1)
        more = await reading.cycles(_CYCLES)
    finally:
        await reading.cache.close()
    theirs = seconds_of(samples["load_file"])
    found: dict[str, object] = {"size_mib": size // MIB, "processors": os.cpu_count()}
    for name, taken in samples.items():
        ratio = ratio_of_medians(seconds_of(taken), theirs)
        middle = sorted(seconds_of(taken))[len(taken) // 2]
        found[name] = {
            "gb_per_s": round(size / middle / 1e9, 2),
            "ratio": [round(one, 3) for one in (ratio.value, ratio.low, ratio.high)],
        }
    return found | more


def main(arguments: list[str]) -> int:
    """Print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024, help="of each of two files")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = asyncio.run(measure(Path(folder), given.size_mib * MIB, given.rounds))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
