"""FASTEST pictures over gRPC on a card with compiled code: what they take beside EXACT ones,
the engine in one process and diffusers, how far they are from EXACT ones, how soon other work
begins after a cancel, what making the code takes, and how soon a server that was started again
has it. As JSON, each part on standard error as soon as it is there. diffusers with its compiled
recipe is `bench.accelerator_peer`.

`python -m bench.accelerator_fastest FOLDER` makes an SDXL checkpoint of 6.9 GB with random
numbers there, if it is not there yet. Server and client are on one machine.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
from PIL import Image

from bench.accelerator_pictures import Bench
from bench.accelerator_served import _SIZES, _model, _request, _timed, begun
from bench.cancel import first_phase
from bench.client import next_event, random_moment
from bench.model_files import random_model
from deviceops.v1 import device_info_pb2, device_pb2, inference_pb2, processing_pb2
from domains.inference.types import PrecisionMode
from tests.running import Client, RunningServer, start_server

_EXACT, _FASTEST = PrecisionMode.EXACT, PrecisionMode.FASTEST
_MOST_SECONDS = 150.0
# Its first start; another one over the same data folder; in one process.
_PARTS = ("first", "again", "beside")


async def _patiently(client: Client, request: inference_pb2.GenerateRequest) -> Any:
    """A picture, once the device is ready: its file, seconds and what computed it."""
    deadline = time.perf_counter() + _MOST_SECONDS
    while True:
        began = time.perf_counter()
        try:
            events, files = await client.draw(request)
            break
        except Exception as error:
            if time.perf_counter() > deadline:
                raise
            print(repr(error)[:300], file=sys.stderr, flush=True)
            await asyncio.sleep(1)
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


async def _cancelled(
    client: Client, request: inference_pb2.GenerateRequest, rounds: int
) -> dict[str, Any]:
    """From CancelSession to the first work of the session behind, in steps of that run."""
    heir_request = inference_pb2.GenerateRequest()
    heir_request.CopyFrom(request)
    heir_request.settings.steps = 2
    moments, found = random.Random(0), []
    for _ in range(rounds):
        victim = client.generate(request)
        session_id = (await next_event(victim)).session_id
        heir = client.generate(heir_request)
        await next_event(heir)
        moment = await random_moment(victim, moments, 3, request.settings.steps - 4)
        waiting = asyncio.create_task(first_phase(heir))
        began = time.perf_counter()
        cancel = processing_pb2.CancelSessionRequest(session_id=session_id)
        await client.processing.CancelSession(cancel, metadata=client.metadata)
        found.append((await waiting - began) / moment.mean_step)
        while await heir.read() is not grpc.aio.EOF:
            pass
    return {"in_steps": [round(each, 2) for each in found]}


async def _first_start(server: RunningServer, steps: int, rounds: int) -> dict[str, Any]:
    async with server.client() as client:
        model_id = await _model(client)
        large, small = _SIZES
        exact_request, fast_request = (
            _request(model_id, large, steps, mode) for mode in (_EXACT, _FASTEST)
        )
        exact, *_ = await _patiently(client, exact_request)
        found: dict[str, Any] = {}

        def say(name: str, what: Any) -> None:
            found[name] = what
            print(json.dumps({name: what}), file=sys.stderr, flush=True)

        small_request = _request(model_id, small, steps, _EXACT)
        say("EXACT 1024 before", await _timed(client, exact_request, rounds))
        say("EXACT 512 before", await _timed(client, small_request, rounds))
        say("optimize", await _optimized(client, model_id))
        made, _, compiled = await _patiently(client, fast_request)
        say("psnr", {"db": _psnr(made, exact), "compiled": compiled})
        say("FASTEST 1024", await _timed(client, fast_request, rounds))
        say("EXACT 1024", await _timed(client, exact_request, rounds))
        say("EXACT 512", await _timed(client, small_request, rounds))
        again, *_ = await _patiently(client, exact_request)
        say("exact is the same", _psnr(again, exact) == float("inf"))
        say("cancel", await _cancelled(client, fast_request, 8))
        return found


async def _small(server: RunningServer, steps: int, rounds: int) -> dict[str, Any]:
    """Smaller pictures, once code is there for them, which is made as they are drawn."""
    async with server.client() as client:
        request = _request(await _model(client), _SIZES[1], steps, _FASTEST)
        began = time.perf_counter()
        while time.perf_counter() < began + _MOST_SECONDS:
            *_, compiled = await _patiently(client, request)
            if len(compiled) == 2:
                break
            await asyncio.sleep(1)
        waited = round(time.perf_counter() - began, 1)
        return await _timed(client, request, rounds) | {"waited_s": waited}


async def _started_again(server: RunningServer, steps: int, began: float) -> dict[str, Any]:
    """Pictures one after another until code runs: when each was there, and what it took."""
    async with server.client() as client:
        model_id = await _model(client)
        request = _request(model_id, _SIZES[0], steps, _FASTEST)
        request.options.queue_timeout.FromSeconds(int(_MOST_SECONDS))
        found = []
        while len(found) < 6:
            events, _ = await client.draw(request)
            told = events[-1].completed
            found.append(
                {
                    "at_s": round(time.perf_counter() - began, 2),
                    "compiled": list(map(int, told.generation.computed.compiled)),
                }
                | {
                    name: round(getattr(told.timings, name).ToNanoseconds() / 1e9, 3)
                    for name in ("total", "queue", "load", "denoise", "decode")
                }
            )
        return {"pictures": found}


def _peers(folder: Path, steps: int, rounds: int) -> dict[str, Any]:
    """The engine in this process, and diffusers as it is."""
    bench = Bench(random_model(folder), steps, rounds)
    bench.draw()
    peer, found = bench.peer(), dict[str, Any]()
    for width, height in _SIZES:
        own = bench.timed(width=width, height=height, precision=_EXACT)
        found[f"{width}"] = {"engine": own, "diffusers": peer(width, height)}
        print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def _restarted(
    data: Path, flags: tuple[str, ...], steps: int, rounds: int
) -> Iterator[tuple[str, Any]]:
    """What a server over the same data folder does, and smaller pictures with code."""
    began = time.perf_counter()
    with start_server(data, *flags) as server:
        yield "started again", asyncio.run(_started_again(server, steps, began))
        yield "FASTEST 512", asyncio.run(_small(server, steps, rounds))


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object."""
    given, found, flags = begun("accelerator_fastest", __doc__, arguments, _PARTS)
    first, again, beside = (part in given.parts for part in _PARTS)
    with tempfile.TemporaryDirectory() as data:
        if first:
            with start_server(Path(data), *flags) as server:
                try:
                    found["first"] = asyncio.run(
                        _first_start(server, given.steps, given.rounds)
                    )
                finally:
                    print(server.log()[-6000:], file=sys.stderr)
            folder = Path(data) / "compiled"
            found["mib"] = [
                round(each.stat().st_size / 2**20, 1) for each in folder.glob("*/code*")
            ]
        if again:
            for name, what in _restarted(Path(data), flags, given.steps, given.rounds):
                found[name] = what
                print(json.dumps(found), file=sys.stderr, flush=True)
    if beside:
        found["beside"] = _peers(given.folder, given.steps, given.rounds)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
