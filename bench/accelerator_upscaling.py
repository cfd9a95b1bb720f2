"""Enlarging 1024 to 4096 pixels on a card: tiles as they are chosen, tiles of some sizes, one
tile, and the network's plain call, in one process. A line of JSON for each.

`python -m bench.accelerator_upscaling` needs torch, numpy, Pillow, msgspec and psutil, the
demo's compact-4x, and writes an RRDB of full shape (23 blocks) with random numbers into a
temporary folder. Times are medians, with the picture's way to the card and back; memory is the
most that tensors took beyond the weights. Differences are in 8-bit levels from the plain call
in float32. `plain call` computes in the type that is chosen for the card.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.upscaling_ways import as_one_tile, plain_call, synthetic
from domains.chain.backends.upscaling.enlarging import PassMade, enlarge
from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.backends.upscaling.tiled import Pixels
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.device.backends.faults import is_shortage
from domains.model.backends.upscalers import rrdb
from domains.model.core.enlarging import tile_bytes
from domains.values import ModelPlace

_MODELS = Path(__file__).resolve().parent.parent / "demo" / "models"
_TILES = (256, 512, 768)
_MIB = 2**20
# ESRGAN's first weights: those of He et al., a tenth of them.
_SCALE = 0.1


def write_random(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of float16 numbers as a network's first weights are."""
    random, entries, pieces, place = np.random.default_rng(1), {}, [], 0
    for name, shape in shapes.items():
        spread = _SCALE * math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0
        pieces.append((random.standard_normal(shape) * spread).astype(np.float16).tobytes())
        end = place + len(pieces[-1])
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, end]}
        place = end
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(pieces))


def _timed(
    act: Callable[[], Pixels], device: torch.device, rounds: int
) -> tuple[Pixels, dict[str, float]]:
    enlarged = act()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) - before
    figures = {
        "s": statistics.median(seconds),
        "least_s": min(seconds),
        "peak_mib": peak / _MIB,
    }
    return enlarged, {name: round(value, 4) for name, value in figures.items()}


def _tiled(upscaler: Upscaler, pixels: Pixels, tile: int, made: list[PassMade]) -> Pixels:
    return enlarge(upscaler, pixels, upscaler.factor, tile, tell=made.append)


def measure(place: ModelPlace, edge: int, rounds: int, device: torch.device) -> None:
    """Print every way with one upscaler."""
    pixels = synthetic(edge)
    exact = load_upscaler(place, device, torch.float32)
    upscaler = load_upscaler(place, device)
    made: list[PassMade] = []
    ways: dict[str, Callable[[], Pixels]] = {
        "plain call, float32": partial(plain_call, exact, pixels),
        "plain call": partial(plain_call, upscaler, pixels),
        "one tile": partial(as_one_tile, upscaler, pixels),
        "chosen": partial(_tiled, upscaler, pixels, 0, made),
        **{f"tiles of {t}": partial(_tiled, upscaler, pixels, t, made) for t in _TILES},
        "chosen, float32": partial(_tiled, exact, pixels, 0, made),
    }
    wanted: Pixels | None = None
    for name, act in ways.items():
        made.clear()
        told: dict[str, Any] = {"model": place.inside.stem, "edge": edge, "way": name}
        try:
            enlarged, figures = _timed(act, device, rounds)
        except Exception as error:
            if not is_shortage(error):
                raise
            print(json.dumps(told | {"error": "out of memory"}), flush=True)
            torch.cuda.empty_cache()
            continue
        wanted = enlarged if wanted is None else wanted
        apart = np.abs(enlarged.astype(np.int16) - wanted)
        told |= figures | {
            "most_apart": int(apart.max()),
            "share_apart": float((apart > 1).mean()),
        }
        if made:
            last, used = made[-1], exact if "float32" in name else upscaler
            numbers, number_bytes = used.numbers_per_pixel, used.data_type.itemsize
            tile = (min(last.tile_pixels, edge),) * 2
            stated = tile_bytes(tile, edge, used.factor, numbers, number_bytes) / _MIB
            told |= {
                "tile": last.tile_pixels,
                "tiles": last.tiles,
                "estimate_mib": round(stated),
            }
            told["type"] = str(last.data_type)
        print(json.dumps(told), flush=True)


def main(arguments: Sequence[str]) -> int:
    """Both upscalers, one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accelerator_upscaling", description=__doc__
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    print(json.dumps({"card": torch.cuda.get_device_name(device), "torch": torch.__version__}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rrdb-4x-random.safetensors"
        write_random(path, rrdb.shapes(3, 3, features=64, growth=32, blocks=23, enlargements=2))
        for place in (ModelPlace.of(_MODELS / "compact-4x.safetensors"), ModelPlace.of(path)):
            measure(place, options.edge, options.rounds, device)
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
