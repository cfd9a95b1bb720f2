"""A front with four scripted workers: one idle, one that never stops, one that is still
starting, and one that has stopped running Python.

    python -m tests.fakes.front <spool folder>

Prints their process ids on one line and waits to be killed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import structlog
from msgspec.structs import replace

from server.worker.front.pool import WorkerOptions, WorkerPool
from tests.server.worker.workers import DEVICE, eventually, ready, scripted, work


async def main() -> None:
    """Start them and wait."""
    logging.basicConfig(stream=sys.stderr)
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    names = ("cpu:0", "cpu:1", "cpu:2", "cpu:3")
    pool = WorkerPool(
        WorkerOptions(Path(sys.argv[1])),
        command=lambda device: scripted(
            *(["hang-at-start"] if device.device_id == "cpu:2" else [])
        ),
    )
    await pool.start([replace(DEVICE, device_id=name) for name in names])
    await ready(pool, "cpu:0")
    runs = [
        pool.run(name, "session", work(prompt), remaining=600.0)
        for name, prompt in (("cpu:1", "spin"), ("cpu:3", "seize"))
    ]
    for run in runs:
        await anext(run)
    await eventually(lambda: pool.status("cpu:2").process_id != 0)
    print(*(pool.status(name).process_id for name in names), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
