"""Pictures over gRPC on a card: from request to last byte against the engine in one process
and diffusers with the same networks in the same run, where the time goes, and how soon a server
that was started again draws. As JSON.

`python -m bench.accelerator_served FOLDER` makes an SDXL checkpoint of 6.9 GB with random
numbers there, if it is not there yet. Server and client are on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.accelerator_pictures import BEGUN_STEPS, Bench
from bench.model_files import random_model
from deviceops.v1 import (
    event_pb2,
    generation_pb2,
    inference_pb2,
    model_pb2,
    sampling_pb2,
)
from domains.inference.types import PrecisionMode
from tests.running import Client, RunningServer, start_server

_SIZES = ((1024, 1024), (512, 512))
_PRECISIONS = {
    PrecisionMode.EXACT: generation_pb2.PRECISION_MODE_EXACT,
    PrecisionMode.FASTEST: generation_pb2.PRECISION_MODE_FASTEST,
}
_PHASES = ("queue", "load", "encode_text", "denoise", "decode", "encode_image")
_READY_SECONDS = 300.0
# What a card rests between two pictures that are asked for over gRPC one after another.
_IDLE_SECONDS = 0.05


def _request(
    model_id: str, size: tuple[int, int], steps: int, precision: PrecisionMode
) -> inference_pb2.GenerateRequest:
    settings = generation_pb2.GenerationSettings(
        model_id=model_id,
        prompt="a red apple on a blue background, highly detailed",
        width=size[0],
        height=size[1],
        steps=steps,
        seed=7,
    )
    settings.guidance.scale = 7.0
    settings.scheduler.scheduler = sampling_pb2.SCHEDULER_EULER_DISCRETE
    settings.precision.mode = _PRECISIONS[precision]
    return inference_pb2.GenerateRequest(settings=settings)


async def _model(client: Client) -> str:
    """The one model's id, once it is found."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            asked = model_pb2.ListModelsRequest()
            found = await client.model.ListModels(asked, metadata=client.metadata)
            if found.models:
                return str(found.models[0].model_id)
            await asyncio.sleep(0.1)


async def _picture(
    client: Client, request: inference_pb2.GenerateRequest
) -> tuple[float, event_pb2.SessionCompleted, list[float]]:
    """Seconds from the request to the last byte, what the server tells of it, and of each
    step's seconds."""
    began = time.perf_counter()
    events, _ = await client.draw(request)
    took = time.perf_counter() - began
    steps = [
        each.step_finished.duration.ToNanoseconds() / 1e9
        for each in events
        if each.HasField("step_finished")
    ]
    return took, events[-1].completed, steps


async def _timed(
    client: Client, request: inference_pb2.GenerateRequest, rounds: int
) -> dict[str, Any]:
    """Medians of some pictures after two that do not count, and where the time went. No two
    are alike: what is kept already takes a server less."""
    asked, found = inference_pb2.GenerateRequest(), []
    asked.CopyFrom(request)
    for _ in range(2 + rounds):
        asked.settings.seed += 1
        found.append(await _picture(client, asked))
    del found[:2]
    taken = [
        {name: getattr(told.timings, name).ToNanoseconds() / 1e9 for name in _PHASES}
        for _, told, _ in found
    ]
    phases = {
        f"{name}_s": round(statistics.median(each[name] for each in taken), 4)
        for name in _PHASES
    }
    in_none = [
        seconds - sum(each.values()) for (seconds, *_), each in zip(found, taken, strict=True)
    ]
    last = found[-1][1]
    return {
        "request_to_last_byte_s": round(statistics.median(one[0] for one in found), 4),
        "session_s": round(
            statistics.median(one[1].timings.total.ToNanoseconds() / 1e9 for one in found), 4
        ),
        "step_ms": round(
            1000 * statistics.median(step for one in found for step in one[2][BEGUN_STEPS:]), 2
        ),
        "first_steps_s": round(
            statistics.median(sum(one[2][:BEGUN_STEPS]) for one in found), 4
        ),
        **phases,
        "in_no_phase_s": round(statistics.median(in_none), 4),
        "bytes": last.images[0].size_bytes,
        "computed": str(last.generation.computed).replace("\n", " ").strip(),
    }


async def _first(server: RunningServer, steps: int, began: float) -> dict[str, float]:
    """Seconds from the start of the server to its first picture, and of the second."""
    async with server.client() as client:
        model_id = await _model(client)
        request = _request(model_id, _SIZES[0], steps, PrecisionMode.EXACT)
        request.options.queue_timeout.FromSeconds(int(_READY_SECONDS))
        while True:
            try:
                await client.draw(request)
                break
            except Exception:
                if time.perf_counter() - began > _READY_SECONDS:
                    raise
                await asyncio.sleep(0.2)
        first = time.perf_counter() - began
        second, *_ = await _picture(client, request)
    return {"start_to_first_picture_s": round(first, 3), "second_s": round(second, 3)}


async def _served(server: RunningServer, steps: int, rounds: int) -> dict[str, Any]:
    async with server.client() as client:
        model_id = await _model(client)
        found: dict[str, Any] = {}
        for precision in _PRECISIONS:
            for size in _SIZES:
                request = _request(model_id, size, steps, precision)
                name = f"{precision.name} {size[0]}x{size[1]}"
                found[name] = await _timed(client, request, rounds)
                print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
        return found


def begun(
    name: str, about: str | None, arguments: list[str], parts: Sequence[str] = ()
) -> tuple[argparse.Namespace, dict[str, Any], tuple[str, ...]]:
    """What a benchmark over gRPC was asked, the checkpoint made where it lacks.

    Args:
        name: What it is called.
        about: What it is for.
        arguments: How it was called.
        parts: What of it can be left out, by name.

    Returns:
        `folder`, `steps`, `rounds`, and which `parts` are wanted; card and settings for its
        report; a server's flags.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    parser.add_argument("folder", type=Path, help="Where the checkpoint is put, and stays.")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    if parts:
        parser.add_argument("--parts", nargs="*", choices=parts, default=parts)
    given = parser.parse_args(arguments)
    random_model(given.folder)
    card, version = torch.cuda.get_device_name(), torch.__version__
    found: dict[str, Any] = {"card": card, "torch": version, "steps": given.steps}
    found["kernel"] = platform.release()  # in a sandbox, system calls take longer
    return given, found, ("--model-root", str(given.folder), "--preload")


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object."""
    given, found, flags = begun("accelerator_served", __doc__, arguments)
    with tempfile.TemporaryDirectory() as data:
        for start in ("first start", "started again"):
            began = time.perf_counter()
            with start_server(Path(data), *flags) as server:
                found[start] = asyncio.run(_first(server, given.steps, began))
                print(json.dumps({start: found[start]}), file=sys.stderr, flush=True)
                if start == "started again":
                    found["served"] = asyncio.run(_served(server, given.steps, given.rounds))
    bench = Bench(random_model(given.folder), given.steps, given.rounds)
    bench.draw()
    peer = bench.peer()
    for width, height in _SIZES:
        size = f"{width}x{height}"
        for precision in _PRECISIONS:
            name = f"{precision.name} {size}"
            own = bench.timed(width=width, height=height, precision=precision)
            found[f"in one process {name}"] = own
            rested = bench.timed(
                idle=_IDLE_SECONDS, width=width, height=height, precision=precision
            )
            found[f"in one process, rested, {name}"] = rested
            served = found["served"][name]["request_to_last_byte_s"]
            found[f"served to in one process {name}"] = round(served / own["picture_s"], 4)
        found[f"diffusers {size}"] = peer(width, height)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
