"""Devices and memory on a real accelerator: one pass over the contract, with a report.

    python -m bench.accelerator_memory [--device cuda:0] [--out FILE.md]

Needs no network. Every step stands alone: one that fails is told and the next begins.
Exit code 1 when one failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench.accelerator_session import Session
from bench.accelerator_steps import STEPS
from bench.machine import describe_machine
from tests.running import start_server

# The thresholds would refuse what is to fail in the allocator here.
_SETTINGS = """\
pressure_elevated = 0.97
pressure_high = 0.98
pressure_critical = 0.999
pressure_hysteresis = 0.01
allocation_quota_bytes = 0
"""
_STEP_SECONDS = 100.0

Step = Callable[[Session], Awaitable[None]]


async def _run(session: Session, steps: Sequence[tuple[str, Step]]) -> bool:
    failed = False
    for title, step in steps:
        session.say(f"\n## {title}\n")
        start = time.perf_counter()
        try:
            async with asyncio.timeout(_STEP_SECONDS):
                await step(session)
        except Exception as error:
            failed = True
            session.say(f"**FAILED**: {type(error).__name__}: {error}")
        session.say(f"\n({time.perf_counter() - start:.1f} s)")
    return failed


async def _measure(folder: Path, config: Path, device_id: str, lines: list[str]) -> bool:
    with start_server(folder, "--config", str(config)) as server:
        async with server.client() as client:
            failed = await _run(Session(client, device_id, lines), STEPS)
        if failed:
            print(server.log()[-6000:], file=sys.stderr)
    return failed


def main(arguments: Sequence[str]) -> int:
    """Do every step, print and keep the report; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.accelerator_memory")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--out", type=Path, help="where to keep the report")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    lines = [
        f"# Devices and memory on {options.device}",
        "",
        "Written by `python -m bench.accelerator_memory`.",
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib:g} GiB, "
        f"{machine.system}; Python {machine.python}, "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
    ]
    print("\n".join(lines), flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as name:
            folder = Path(name)
            config = folder / "config.toml"
            config.write_text(_SETTINGS)
            failed = asyncio.run(_measure(folder, config, options.device, lines))
    finally:
        if options.out is not None:
            options.out.write_text("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
