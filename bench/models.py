"""Loading, switching and keeping models: ratios against diffusers and a plain copy, as JSON.

`python -m bench.models` measures copies of the demo model on the processor.
`python -m bench.models --device cuda:0 --full-shape` makes two SDXL checkpoints of 6.9 GB with
random numbers and a folder of the same networks, loads and switches them on the card.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.model_files import copy_demo, write_folder, write_single_file
from bench.peers import ROOT
from deviceops.v1 import (
    device_info_pb2,
    device_pb2,
    memory_info_pb2,
    memory_pb2,
    model_cache_pb2,
    model_info_pb2,
    model_pb2,
    model_task_pb2,
    session_pb2,
)
from tests.running import Client, small_request, start_server

_FREE_FOR_SWITCHES = 3 << 30  # too little for a second model beside the first
_SETTINGS = """
allocation_quota_bytes = 0
pressure_elevated = 0.97
pressure_high = 0.98
pressure_critical = 0.99
pressure_hysteresis = 0.0
"""


@dataclass
class Run:
    """What is measured where, and what was found so far."""

    device: str
    models: Path
    work: Path
    rounds: int
    cycles: int
    one: str = "one"
    two: str = "two"
    folder: str = "folder"
    found: dict[str, Any] = field(default_factory=dict)

    def say(self, **found: Any) -> None:
        """Keep figures, and show that it goes on."""
        self.found |= found
        print(json.dumps(found), file=sys.stderr, flush=True)

    @asynccontextmanager
    async def server(self, name: str, *flags: str, cache: int) -> AsyncIterator[Client]:
        """A server with these models and so many bytes of cache."""
        config = self.work / f"{name}.toml"
        config.write_text(f"model_cache_bytes = {cache}\n{_SETTINGS}")
        given = ("--config", str(config), "--model-root", str(self.models))
        given += ("--default-device", self.device, "--default-model", self.one, *flags)
        with start_server(self.work / name, *given) as running:
            async with running.client() as client:
                yield client


async def load(client: Client, run: Run, model_id: str) -> tuple[float, str]:
    """Seconds of LOADING_MODEL, as the client sees it, and where the model was."""
    request = model_pb2.LoadModelRequest(
        model_id=model_id,
        placement=device_info_pb2.DevicePlacement(device_id=run.device),
    )
    began = time.perf_counter()
    async for answer in client.model.LoadModel(request, metadata=client.metadata):
        event = answer.event
        started = event.HasField("phase_started")
        if started and event.phase_started.phase == session_pb2.PHASE_LOADING_MODEL:
            began = time.perf_counter()
        if event.HasField("completed"):
            origin = model_info_pb2.ModelOrigin.Name(event.completed.loaded_model.origin)
            return time.perf_counter() - began, origin.removeprefix("MODEL_ORIGIN_")
    raise AssertionError("the load had no end")


async def unload(client: Client, model_id: str) -> None:
    """Take a model off its device; main memory keeps it."""
    request = model_pb2.UnloadModelRequest(model_id=model_id, keep_cached=True)
    async for _ in client.model.UnloadModel(request, metadata=client.metadata):
        pass


async def from_disk(run: Run, peer: dict[str, Any]) -> None:
    """Disk, with a warm page cache, to the device; and what many cycles leave behind."""
    async with run.server("disk", cache=0) as client:
        for model_id in (
            run.one,
            run.folder,
        ):  # the first load starts libraries, tries networks
            await load(client, run, model_id)
            await unload(client, model_id)
        folder, single = [], []
        for _ in range(run.rounds):
            for model_id, times in ((run.folder, folder), (run.one, single)):
                times.append((await load(client, run, model_id))[0])
                await unload(client, model_id)
        theirs = statistics.median(peer["load_seconds"])
        run.say(
            disk_seconds=statistics.median(folder),
            disk_single_file_seconds=statistics.median(single),
            diffusers_seconds=theirs,
            disk_ratio=statistics.median(folder) / theirs,
        )
        before = await resident(client, run)
        for _ in range(run.cycles):
            await load(client, run, run.one)
            await unload(client, run.one)
        after = await resident(client, run)
        run.say(cycles=run.cycles, memory_ratio=after / before if run.cycles else None)


async def resident(client: Client, run: Run) -> int:
    """Resident memory of the device's worker."""
    request = device_pb2.GetDeviceStatusRequest(device_id=run.device)
    found = await client.device.GetDeviceStatus(request, metadata=client.metadata)
    return int(found.worker.resident_memory.value_bytes)


async def switches(run: Run, peer: dict[str, Any]) -> None:
    """Main memory to the device: in place of a model that is there."""
    async with run.server("switch", cache=3 * model_bytes(run)) as client:
        for model_id in (run.one, run.two):
            cached = model_cache_pb2.CacheModelRequest(model_id=model_id)
            async for _ in client.model.CacheModel(cached, metadata=client.metadata):
                pass
        request = model_task_pb2.BenchmarkModelRequest(
            model_id=run.one,
            placement=device_info_pb2.DevicePlacement(device_id=run.device),
            steps=3,
        )
        async for answer in client.model.BenchmarkModel(request, metadata=client.metadata):
            if answer.event.HasField("completed"):
                figures = answer.event.completed.model_benchmark
        alone = figures.switch.p50_ms / 1_000
        run.say(
            switch_seconds=alone,
            switch_ratio=alone / statistics.median(peer["load_seconds"]),
            step_ms=figures.step.p50_ms,
            encode_ms=figures.encode.p50_ms,
            decode_ms=figures.decode.p50_ms,
        )
        if peer["copy_speed"]:
            speed = model_bytes(run) / alone
            run.say(
                copy_gb_per_s=peer["copy_speed"] / 1e9,
                switch_share_of_copy_speed=speed / peer["copy_speed"],
            )
            await between_two(client, run)


async def between_two(client: Client, run: Run) -> None:
    """From one model to the other and back, with room for one."""
    await load(client, run, run.one)
    memory = await client.device.GetDeviceMemory(
        device_pb2.GetDeviceMemoryRequest(device_id=run.device), metadata=client.metadata
    )
    size = memory.memory.free.value_bytes - _FREE_FOR_SWITCHES
    request = memory_pb2.CreateAllocationRequest(
        place=memory_info_pb2.MemoryPlace(device_id=run.device), size_bytes=size
    )
    request.lease.FromSeconds(600)
    await client.memory.CreateAllocation(request, metadata=client.metadata)
    times, origins = [], set()
    for _ in range(run.rounds):
        for model_id in (run.two, run.one):
            seconds, origin = await load(client, run, model_id)
            times.append(seconds)
            origins.add(origin)
    run.say(
        switch_between_two_seconds=times,
        # The first of each reads headers and locks pages; goal: at most 0.2 s.
        switch_between_two_median=statistics.median(times[2:] or times),
        switch_origins=sorted(origins),
    )


def model_bytes(run: Run) -> int:
    """Weights of the first model on disk."""
    place = run.models / f"{run.one}.safetensors"
    files = [place] if place.exists() else (run.models / run.one).rglob("*.safetensors")
    return sum(file.stat().st_size for file in files)


async def from_start(run: Run) -> None:
    """From the server's start to a warm default model; the first picture against the second."""
    began = time.perf_counter()
    async with run.server("start", "--preload", cache=0) as client:
        request = device_pb2.GetDeviceRequest(device_id=run.device)
        ready = device_info_pb2.DEVICE_STATE_READY
        state = None
        while state != ready:
            found = await client.device.GetDevice(request, metadata=client.metadata)
            state = found.device.state
            await asyncio.sleep(0.01)
        warm = time.perf_counter() - began
        times, phases = [], []
        for seed in range(4):
            start = time.perf_counter()
            drawn = small_request(
                f"a {seed}", seed=seed, width=1024, height=1024, model_id=run.one
            )
            if run.device == "cpu":
                drawn.settings.width = drawn.settings.height = 256
            events, _ = await client.draw(drawn)
            times.append(time.perf_counter() - start)
            completed = next(one.completed for one in events if one.HasField("completed"))
            phases.append(
                {
                    field.name: value.ToMilliseconds()
                    for field, value in completed.timings.ListFields()
                }
            )
    run.say(
        start_to_warm_seconds=warm,
        picture_seconds=times,
        picture_milliseconds_by_phase=phases,
        first_to_second_picture=times[0] / times[1],
    )


def prepare(run: Run, *, full_shape: bool) -> str:
    """Write the models; the variant of the folder's files."""
    if full_shape:
        for seed, name in enumerate((run.one, run.two)):
            write_single_file(run.models / f"{name}.safetensors", seed)
        write_folder(run.models / run.folder)
        return ""
    for name in (run.one, run.two, run.folder):
        copy_demo(run.models / name)
    return "fp16"


def main(arguments: list[str]) -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
    parser.add_argument("--full-shape", action="store_true", help="SDXL of 6.9 GB.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cycles", type=int, default=0, help="Loads and unloads; 200 shows.")
    parser.add_argument("--folder", type=Path, help="Where to put the models meanwhile.")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="deviceops-models-", dir=given.folder) as folder:
        models, work = Path(folder, "models"), Path(folder, "work")
        models.mkdir()
        work.mkdir()
        run = Run(given.device, models, work, given.rounds, given.cycles)
        began = time.perf_counter()
        variant = prepare(run, full_shape=given.full_shape)
        run.say(files_seconds=time.perf_counter() - began, model_bytes=model_bytes(run))
        peer = subprocess.run(
            [
                *(sys.executable, "-m", "bench.model_peer", run.device),
                *(str(models / run.folder), variant, str(run.rounds)),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        theirs = json.loads(peer.stdout.splitlines()[-1])
        run.say(card=theirs["card"], full_shape=given.full_shape)

        failed = False
        for stage in (from_disk(run, theirs), switches(run, theirs), from_start(run)):
            try:
                asyncio.run(stage)
            except Exception as error:  # what the other stages find is worth having
                failed = True
                run.say(**{f"{stage.__name__}_failed": f"{type(error).__name__}: {error}"})
    print(json.dumps(run.found, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
