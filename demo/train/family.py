"""Trains the whole demo family: every companion of emoji-xl, side by side.

    python -m demo.train.family --out trained --minutes 9

The models are so small that one of them leaves a data centre GPU half idle, so all of them
train at once, spread over the GPUs there are; `--minutes` is the time of the longest. Each
writes what it trained into its own folder below `--out`, with its output in `<name>.log`; then

    python -m demo.train.package --trained trained --models demo/models

puts the parts together. `--only` trains some of them, `--smoke` tries all of them for a few
steps on the CPU, one after the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Job:
    """One training: `share` is its part of the time, `gpu` where it goes if there are two."""

    name: str
    command: tuple[str, ...]
    share: float
    gpu: int
    folder: str = ""
    """Where it writes, if not into one of its own name."""


JOBS = (
    Job("sd1", ("sd1",), 1.0, 0),
    Job("sd1-vae", ("sd1_vae",), 0.6, 1, "sd1"),
    Job("comic", ("comic",), 1.0, 1),
    Job("controlnet", ("controlnet_canny",), 0.8, 1),
    Job("refiner", ("refiner",), 1.0, 1),
    Job("vae", ("vae_decoder",), 0.7, 1),
    Job("upscaler-4x", ("upscaler", "--scale", "4"), 0.7, 0),
    Job("upscaler-2x", ("upscaler", "--scale", "2"), 0.9, 1),
    Job("line-art", ("style_lora", "--style", "line-art"), 0.5, 1),
    Job("pixel-art", ("style_lora", "--style", "pixel-art"), 0.5, 0),
    Job("embedding", ("embedding",), 0.4, 0),
)
_PRINTED_LINES = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is asked for; returns how many trainings failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for the weights"
    )
    parser.add_argument("--minutes", type=float, help="of the longest; default: its recipe's")
    parser.add_argument("--only", nargs="+", choices=[job.name for job in JOBS])
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps on the CPU")
    given = parser.parse_args(argv)
    jobs = [job for job in JOBS if given.only is None or job.name in given.only]
    results: dict[str, int] = {}
    threads = []
    started = time.monotonic()
    for job in jobs:
        thread = threading.Thread(target=_train, args=(job, given, results))
        thread.start()
        threads.append(thread)
        if given.smoke:
            thread.join()
    for thread in threads:
        thread.join()
    failed = [job.name for job in jobs if results.get(job.name) != 0]
    print(f"{len(jobs) - len(failed)} of {len(jobs)} in {time.monotonic() - started:.0f} s")
    if failed:
        print(f"failed: {', '.join(failed)}; see their logs")
    return len(failed)


def _train(job: Job, given: argparse.Namespace, results: dict[str, int]) -> None:
    """Runs one training in a process of its own and shows how it ended."""
    folder = given.out / (job.folder or job.name)
    folder.mkdir(parents=True, exist_ok=True)
    module, *arguments = job.command
    command = [sys.executable, "-u", "-m", f"demo.train.{module}", *arguments]
    command += ["--out", str(folder)]
    if given.minutes is not None:
        command += ["--minutes", f"{given.minutes * job.share:g}"]
    if torch.cuda.device_count() > 1:
        command += ["--device", f"cuda:{job.gpu % torch.cuda.device_count()}"]
    if given.smoke:
        command.append("--smoke")
    with (folder / f"{job.name}.log").open("w+", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        log.seek(0)
        last = log.read().splitlines()[-_PRINTED_LINES:]
    results[job.name] = done.returncode
    print("\n".join(f"[{job.name}] {line}" for line in last), flush=True)


if __name__ == "__main__":
    sys.exit(main())
