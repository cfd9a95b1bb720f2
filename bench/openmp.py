"""How torch's threads should wait: settings of OpenMP, alone and on a crowded machine.

    python -m bench.openmp [--quick] [--out FILE.json]

GNU OpenMP lets a thread that waits for the others spin for a while before it sleeps.
That costs nothing while every thread has a core; where others want the cores too, the
one that spins keeps the one it waits for from running. Every setting draws the same
pictures in a process of its own, in turns, first alone and then beside one busy loop for
each core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.machine import Others, busy_note, describe_machine
from bench.measure import (
    Arm,
    Sample,
    interleave,
    median,
    median_facts,
    ratio_of_medians,
    seconds_of,
)
from bench.peers import Peer, peer
from bench.work import work_of_round

# What GNU OpenMP does when nothing is set.
DEFAULT = "GOMP_SPINCOUNT=300000"
# What a worker sets by itself, where its user sets nothing.
WORKER = "as a worker"
SETTINGS: dict[str, tuple[str, ...]] = {
    DEFAULT: (DEFAULT,),
    WORKER: (),
    **{
        setting: (setting,)
        for setting in (
            "OMP_WAIT_POLICY=PASSIVE",
            "GOMP_SPINCOUNT=1000",
            "GOMP_SPINCOUNT=3000",
            "GOMP_SPINCOUNT=10000",
            "GOMP_SPINCOUNT=100000",
        )
    },
}
_STEPS = {"idle": 20, "crowded": 1}
_WARM_UPS = 1


async def measure(
    rounds: Mapping[str, int],
    steps: Mapping[str, int],
    settings: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Seconds per picture by state and setting, and ratios to the first setting.

    Args:
        rounds: By state, "idle" and "crowded".
        steps: Of the pictures, by state.
        settings: Variables by the setting's name.
    """
    baseline = next(iter(settings))
    async with AsyncExitStack() as stack:
        peers = {
            name: await stack.enter_async_context(peer("engine", variables))
            for name, variables in settings.items()
        }
        results: dict[str, Any] = {}
        for state, number in steps.items():
            arms = [Arm(name, partial(_draw, one, number)) for name, one in peers.items()]
            with _crowd() if state == "crowded" else nullcontext():
                samples = await interleave(arms, rounds=rounds[state], warm_ups=_WARM_UPS)
            seconds = {name: seconds_of(taken) for name, taken in samples.items()}
            results[state] = {
                name: {
                    "median": median(taken),
                    "ratio": asdict(ratio_of_medians(taken, seconds[baseline])),
                    "samples": taken,
                    **median_facts(samples[name]),
                }
                for name, taken in seconds.items()
            }
            _print(state, number, results[state])
    return results


async def _draw(one: Peer, steps: int, number: int) -> Sample:
    others = Others()
    sample = await one.draw(work_of_round(number, steps))
    return Sample(sample.seconds, {"others_percent": others.percent()})


@contextmanager
def _crowd() -> Iterator[None]:
    """One busy loop for each core."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(psutil.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _print(state: str, steps: int, result: dict[str, Any]) -> None:
    print(f"\n{state}, {steps} steps")
    for name, figures in result.items():
        ratio = figures["ratio"]
        print(
            f"  {name:26} {figures['median']:8.3f} s   {ratio['value']:.3f} times the first "
            f"({ratio['low']:.3f} to {ratio['high']:.3f})   "
            f"others {figures['others_percent']:.0f} %"
        )
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Measure and print; keep the results where told."""
    parser = argparse.ArgumentParser(prog="python -m bench.openmp")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work?")
    parser.add_argument("--out", type=Path, help="where to keep the results, as JSON")
    options = parser.parse_args(arguments)
    # A crowd makes the library's default so slow that few rounds show it.
    rounds = {"idle": 2, "crowded": 1} if options.quick else {"idle": 12, "crowded": 3}
    machine = describe_machine()
    results = asyncio.run(measure(rounds, _STEPS, SETTINGS))
    # Beside the crowd that belongs to the measurement there should be nobody.
    quiet = {name: figures["others_percent"] for name, figures in results["idle"].items()}
    note = busy_note(machine, quiet)
    if note:
        print("\n" + note)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"note": note, "machine": asdict(machine), "steps": _STEPS}
        options.out.write_text(json.dumps(record | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
