"""From starting the server's process to SERVING, against importing gRPC alone."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import grpc.aio
from grpc_health.v1 import (  # type: ignore[import-untyped]
    health_pb2,
    health_pb2_grpc,
)

from bench.measure import Arm, Sample, interleave, median, ratio_of_medians, seconds_of
from bench.outcome import Goal, Outcome, summarise
from bench.peers import ROOT
from tests.running import launch

_LIMIT_SECONDS = 1.0
_POLL_SECONDS = 0.002
_LONGEST_SECONDS = 60.0
_WARM_UPS = 1
_IMPORT = "import grpc.aio"


async def start_to_serving(rounds: int) -> Outcome:
    """Each start has an empty data folder, and starts its workers as it does for users."""
    samples = await interleave(
        [Arm("serving", _serve), Arm("import", _import)], rounds=rounds, warm_ups=_WARM_UPS
    )
    ours, theirs = samples["serving"], samples["import"]
    return Outcome(
        "start-to-serving",
        f"from process start to SERVING, against `python -c '{_IMPORT}'` from start to end",
        summarise("server", ours),
        summarise("import", theirs),
        ratio_of_medians(seconds_of(ours), seconds_of(theirs)),
        Goal("median", _LIMIT_SECONDS, median(seconds_of(ours)), "s"),
        {"rounds": rounds, "warm_ups": _WARM_UPS},
    )


async def _serve(number: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder:
        data_dir = Path(folder)
        start = time.perf_counter()
        process = launch(data_dir)
        try:
            address = await _address(data_dir, start + _LONGEST_SECONDS)
            found = time.perf_counter() - start
            async with grpc.aio.insecure_channel(address) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                answer = await health.Check(health_pb2.HealthCheckRequest())
                seconds = time.perf_counter() - start
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)
    return Sample(seconds, {"address_known": found})


async def _address(data_dir: Path, deadline: float) -> str:
    """Where it answers, from the file that it writes once it serves."""
    location = data_dir / "runtime" / "server.json"
    while time.perf_counter() < deadline:
        if location.exists():
            return str(json.loads(location.read_text())["address"])
        await asyncio.sleep(_POLL_SECONDS)
    raise AssertionError("no start:\n" + (data_dir / "server.log").read_text())


async def _import(number: int) -> Sample:
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _IMPORT, cwd=ROOT)
    code = await process.wait()
    assert code == 0
    return Sample(time.perf_counter() - start)
