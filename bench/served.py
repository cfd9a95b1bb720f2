"""A server with one tiny model, and what its processes take."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from deviceops.v1 import inference_pb2
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, RunningServer, small_request, start_server

MODEL_ID = "small"
MIB = 2**20
# Latents of 32x32 for the smallest pictures: drawing one takes little beside what surrounds it.
_HALVINGS = 3


@dataclass(frozen=True)
class Usage:
    """What a server's processes have taken so far: seconds of processors, and bytes of memory
    that are theirs now."""

    front_seconds: float
    workers_seconds: float
    front_bytes: int
    workers_bytes: int

    def since(self, before: Usage) -> Usage:
        """What came on top."""
        return Usage(
            self.front_seconds - before.front_seconds,
            self.workers_seconds - before.workers_seconds,
            self.front_bytes - before.front_bytes,
            self.workers_bytes - before.workers_bytes,
        )


def usage_of(process_id: int) -> Usage:
    """Of the server whose front has that number."""
    front = psutil.Process(process_id)
    workers = front.children(recursive=True)
    taken = [_taken(front), *map(_taken, workers)]
    return Usage(
        taken[0][0],
        sum(seconds for seconds, _ in taken[1:]),
        taken[0][1],
        sum(held for _, held in taken[1:]),
    )


def _taken(process: psutil.Process) -> tuple[float, int]:
    try:
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0.0, 0


@contextmanager
def models_and_data() -> Iterator[tuple[Path, Path]]:
    """A folder with the model, and one for a server's data; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder:
        save_sd1(Path(folder) / "models" / MODEL_ID, halvings=_HALVINGS)
        yield Path(folder) / "models", Path(folder) / "data"


@contextmanager
def tiny_server(*settings: str) -> Iterator[RunningServer]:
    """A server that has that model and these lines of TOML as its configuration."""
    with models_and_data() as (models, data), served(models, data, *settings) as running:
        yield running


@contextmanager
def plain_server() -> Iterator[RunningServer]:
    """A server as it is without settings, with the models that come with it."""
    with (
        tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder,
        start_server(Path(folder)) as running,
    ):
        yield running


@contextmanager
def served(models: Path, data: Path, *settings: str) -> Iterator[RunningServer]:
    """A server on these folders, with these lines of TOML as its configuration."""
    with start_server(data, *options(models, data, *settings)) as running:
        yield running


def options(models: Path, data: Path, *settings: str) -> tuple[str, ...]:
    """The options of such a server; writes its configuration."""
    data.mkdir(parents=True, exist_ok=True)
    config = data.parent / "server.toml"
    config.write_text("\n".join(settings) + "\n", "utf-8")
    return "--model-root", str(models), "--config", str(config)


def tiny(number: int, *, edge: int = 256, steps: int = 1) -> inference_pb2.GenerateRequest:
    """A generation whose text and seed no other number has."""
    return small_request(
        f"picture {number}",
        model_id=MODEL_ID,
        seed=number,
        steps=steps,
        width=edge,
        height=edge,
    )


async def warmed(client: Client) -> None:
    """Return once the server has drawn: its worker is there, and the model loaded."""
    events, files = await client.draw(tiny(2**31))
    assert files, events[-1]
