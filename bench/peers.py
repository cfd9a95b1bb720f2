"""The parent's side of `bench.peer`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import Sample
from bench.work import Work
from server.worker.front.environment import child_environment

ROOT = Path(__file__).resolve().parents[1]


class Peer:
    """A process that draws without the server. One request at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.threads = 0
        """Threads that its torch computes with."""

    async def hear(self) -> dict[str, Any]:
        """Its next answer.

        Raises:
            RuntimeError: It ended; its standard error has said why.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with code {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def draw(self, work: Work, precision: str = "exact") -> Sample:
        """Draw one picture; the seconds are those the peer measured."""
        assert self._process.stdin is not None
        request = {"work": asdict(work), "precision": precision}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await self._process.stdin.drain()
        answer = await self.hear()
        labels = answer["labels"] | {"pixels": answer["pixels"]}
        return Sample(answer["seconds"], answer["facts"], labels)


@asynccontextmanager
async def peer(kind: str, variables: Sequence[str] = ()) -> AsyncIterator[Peer]:
    """A peer, ready to draw, in the environment that the front gives a worker.

    Args:
        kind: "engine" or "diffusers".
        variables: `NAME=value` settings of its environment.
    """
    # Through `env`, so that a worker's own environment is the only one described here.
    process = await asyncio.create_subprocess_exec(
        *("env", *variables, sys.executable, "-m", "bench.peer", kind),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=child_environment(),
    )
    try:
        started = Peer(process)
        started.threads = (await started.hear())["threads"]
        yield started
    finally:
        # It ends when it has nothing more to read.
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
