"""What `bench.models` compares with, in a process of its own: diffusers, and a pinned copy.

`python -m bench.model_peer DEVICE FOLDER VARIANT ROUNDS` prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import diffusers
import torch

_COPIED_BYTES = 1 << 30


def load_seconds(folder: Path, variant: str, device: str) -> float:
    """`from_pretrained` and `to(device)` of an SDXL folder, in the type the server takes."""
    data_type = torch.float32 if device == "cpu" else torch.float16
    start = time.perf_counter()
    pipeline: Any = diffusers.StableDiffusionXLPipeline.from_pretrained(
        folder, variant=variant or None, torch_dtype=data_type, local_files_only=True
    )
    pipeline.to(device)
    _wait(device)
    return time.perf_counter() - start


def copy_speed(device: str) -> float | None:
    """Bytes per second of a copy from page-locked memory; None for the processor."""
    if device == "cpu":
        return None
    source = torch.empty(_COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=device)
    best = 0.0
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        _wait(device)
        best = max(best, _COPIED_BYTES / (time.perf_counter() - start))
    return best


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def main(arguments: list[str]) -> int:
    """Measure and print."""
    device, folder, variant, rounds = arguments
    torch.empty(1, device=device)  # the driver's own start counts for nobody
    # The first one imports what it needs.
    loads = [load_seconds(Path(folder), variant, device) for _ in range(int(rounds) + 1)][1:]
    name = "processor" if device == "cpu" else torch.cuda.get_device_name(device)
    print(
        json.dumps({"card": name, "load_seconds": loads, "copy_speed": copy_speed(device)}),
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
