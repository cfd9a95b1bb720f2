"""FASTEST pictures over gRPC on a card with compiled code: what they take and how far they are
from EXACT ones, what making the code takes, and how soon a server that was started again has
it. As JSON.

`python -m bench.accelerator_fastest FOLDER` makes an SDXL checkpoint of 6.9 GB with random
numbers there, if it is not there yet. Server and client are on one machine.
"""

from __future__ import annotations

import asyncio
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.accelerator_served import _SIZES, _model, _request, _timed, begun
from deviceops.v1 import device_info_pb2, device_pb2, inference_pb2
from domains.inference.types import PrecisionMode
from tests.running import Client, RunningServer, start_server

_EXACT, _FASTEST = PrecisionMode.EXACT, PrecisionMode.FASTEST
_MOST_SECONDS = 400.0


async def _patiently(client: Client, request: inference_pb2.GenerateRequest) -> Any:
    """A picture, once the device is ready: its file, seconds and what computed it."""
    deadline = time.perf_counter() + _MOST_SECONDS
    while True:
        began = time.perf_counter()
        try:
            events, files = await client.draw(request)
            break
        except Exception:
            if time.perf_counter() > deadline:
                raise
            await asyncio.sleep(0.2)
    computed = events[-1].completed.generation.computed
    return files[0], time.perf_counter() - began, list(map(int, computed.compiled))


async def _optimized(client: Client, model_id: str) -> dict[str, Any]:
    """Going over to the profile FAST, which waits for the code."""
    request = device_pb2.OptimizeDeviceRequest(
        profile=device_info_pb2.OPTIMIZATION_PROFILE_FAST, model_id=model_id
    )
    began = time.perf_counter()
    async for response in client.device.OptimizeDevice(request, metadata=client.metadata):
        last = response.event
    took = time.perf_counter() - began
    return {"optimize_s": round(took, 2), "told": str(last).replace("\n", " ")[:1500]}


def _psnr(ours: bytes, theirs: bytes) -> float:
    pair = [np.asarray(Image.open(io.BytesIO(one)), float) for one in (ours, theirs)]
    error = float(((pair[0] - pair[1]) ** 2).mean())
    return round(10 * np.log10(255**2 / error), 2) if error else float("inf")


async def _first_start(server: RunningServer, steps: int, rounds: int) -> dict[str, Any]:
    async with server.client() as client:
        model_id = await _model(client)
        size = _SIZES[0]
        exact, *_ = await _patiently(client, _request(model_id, size, steps, _EXACT))
        plain, *_ = await _patiently(client, _request(model_id, size, steps, _FASTEST))
        found: dict[str, Any] = {"plain psnr": _psnr(plain, exact)}
        for mode in (_EXACT, _FASTEST):
            request = _request(model_id, size, steps, mode)
            found[f"before, {mode.name}"] = await _timed(client, request, rounds)
        small = _request(model_id, _SIZES[1], steps, _EXACT)
        found["before, EXACT, smaller"] = await _timed(client, small, rounds)
        found["optimize"] = await _optimized(client, model_id)
        print(json.dumps(found), file=sys.stderr, flush=True)
        made, _, compiled = await _patiently(client, _request(model_id, size, steps, _FASTEST))
        found["psnr"], found["compiled"] = _psnr(made, exact), compiled
        for mode in (_EXACT, _FASTEST):
            request = _request(model_id, size, steps, mode)
            found[f"after, {mode.name}"] = await _timed(client, request, rounds)
        again, *_ = await _patiently(client, _request(model_id, size, steps, _EXACT))
        found["exact is the same"] = _psnr(again, exact) == float("inf")
        return found


async def _started_again(server: RunningServer, steps: int, began: float) -> dict[str, Any]:
    """Pictures one after another until code runs: when each was there, and what it took."""
    async with server.client() as client:
        model_id = await _model(client)
        request = _request(model_id, _SIZES[0], steps, _FASTEST)
        request.options.queue_timeout.FromSeconds(int(_MOST_SECONDS))
        found = []
        while len(found) < 12:
            _, took, compiled = await _patiently(client, request)
            since = time.perf_counter() - began
            found.append({"at_s": round(since, 2), "s": round(took, 3), "compiled": compiled})
        ready = [each["s"] for each in found if each["compiled"]]
        return {"pictures": found, "compiled_s": statistics.median(ready) if ready else None}


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object."""
    given, found, flags = begun("accelerator_fastest", __doc__, arguments)
    with tempfile.TemporaryDirectory() as data:
        with start_server(Path(data), *flags) as server:
            found["first"] = asyncio.run(_first_start(server, given.steps, given.rounds))
            print(server.log()[-6000:], file=sys.stderr)
        print(json.dumps(found), file=sys.stderr, flush=True)
        folder = Path(data) / "compiled"
        found["mib"] = [
            round(each.stat().st_size / 2**20, 1) for each in folder.glob("*/code*")
        ]
        began = time.perf_counter()
        with start_server(Path(data), *flags) as server:
            found["started again"] = asyncio.run(_started_again(server, given.steps, began))
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
