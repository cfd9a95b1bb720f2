"""The catalogue of a real server: looked at, watched, refreshed, hashed."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deviceops.v1 import model_info_pb2, model_pb2, processing_pb2, session_pb2
from tests.domains.model.disk import sketch_demo, write_safetensors
from tests.e2e.errors import read
from tests.running import Client, RunningServer, start_server

LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a checkpoint and a LoRA."""
    folder = tmp_path_factory.mktemp("models")
    sketch_demo(folder / "emoji-xl")
    write_safetensors(folder / "ink.safetensors", LORA)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[RunningServer]:
    """A server over that folder."""
    with start_server(tmp_path_factory.mktemp("data"), "--model-root", str(root)) as server:
        yield server


@pytest.fixture
async def client(running: RunningServer) -> AsyncIterator[Client]:
    async with running.client() as connected:
        yield connected


class Watch:
    """Reads what a watch of models tells, heartbeats left out."""

    def __init__(self, client: Client, **fields: Any) -> None:
        request = model_pb2.WatchModelsRequest(**fields)
        self.call = client.model.WatchModels(request, metadata=client.metadata)

    async def next(self) -> model_pb2.WatchModelsResponse:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self.call.read()
                if answer.kind != model_pb2.MODEL_EVENT_KIND_HEARTBEAT:
                    return answer

    async def until(self, kind: str, model_id: str = "") -> model_pb2.WatchModelsResponse:
        """The next event of that kind; of that model, where one is named."""
        wanted = model_pb2.ModelEventKind.Value(f"MODEL_EVENT_KIND_{kind}")
        while True:
            answer = await self.next()
            if answer.kind == wanted and model_id in ("", answer.model.model_id):
                return answer


async def refresh(client: Client, **fields: Any) -> model_info_pb2.RefreshReport:
    request = model_pb2.RefreshModelsRequest(**fields)
    call = client.model.RefreshModels(request, metadata=client.metadata)
    events = [answer.event async for answer in call]
    assert events[0].HasField("accepted")
    return events[-1].completed.refresh


async def get(client: Client, model_id: str) -> model_info_pb2.ModelInfo:
    request = model_pb2.GetModelRequest(model_id=model_id)
    return (await client.model.GetModel(request, metadata=client.metadata)).model


async def test_a_watch_tells_what_is_there_and_then_what_changes(
    client: Client, root: Path
) -> None:
    watch = Watch(client)
    there = {(await watch.next()).model.model_id for _ in range(2)}
    end = await watch.next()
    file = write_safetensors(root / "wax.safetensors", LORA)
    came = await watch.until("ADDED", "wax")
    hashed = await watch.until("CHANGED", "wax")
    file.unlink()
    gone = await watch.until("REMOVED", "wax")

    assert there == {"emoji-xl", "ink"}
    assert end.kind == model_pb2.MODEL_EVENT_KIND_SNAPSHOT_END
    assert end.revision < came.revision < hashed.revision < gone.revision
    assert not came.model.sha256
    assert len(hashed.model.sha256) == 64
    watch.call.cancel()

    # Who was away is told the rest.
    again = Watch(client, model_id="ink", from_revision=end.revision)
    wax = Watch(client, from_revision=came.revision)
    assert (await wax.until("REMOVED")).model.model_id == "wax"
    again.call.cancel()
    wax.call.cancel()
    old = Watch(client, from_revision=1)
    refused = read(await failure(old))
    assert refused.reason == "EVENTS_EXPIRED"


async def failure(watch: Watch) -> Any:
    with pytest.raises(Exception) as failed:  # noqa: PT011
        await watch.next()
    return failed.value


async def test_a_refresh_finds_at_once_what_lies_there(client: Client, root: Path) -> None:
    """Also what was written a moment ago: whoever asks knows that it is whole."""
    watch = Watch(client)
    file = write_safetensors(root / "new" / "fresh.safetensors", LORA)
    first = await refresh(client)
    await watch.until("CHANGED", "fresh")  # it has its hash
    watch.call.cancel()
    same = await refresh(client, full=True)
    file.unlink()
    last = await refresh(client)

    assert first.added_model_ids == ["fresh"]
    assert first.total_count == 3
    assert not same.added_model_ids
    assert not same.changed_model_ids
    assert last.removed_model_ids == ["fresh"]
    assert last.total_count == 2


async def test_a_refresh_is_a_session_like_any_other(client: Client) -> None:
    sessions = await client.processing.ListSessions(
        processing_pb2.ListSessionsRequest(), metadata=client.metadata
    )
    kind = session_pb2.SESSION_KIND_MODEL_TASK
    assert [one for one in sessions.sessions if one.kind == kind]


async def test_hashes_come_by_themselves_and_say_what_they_are_over(
    client: Client, root: Path
) -> None:
    watch = Watch(client)
    known: dict[str, str] = {}
    while {"emoji-xl", "ink"} - known.keys():
        model = (await watch.next()).model
        if model.sha256:
            known[model.model_id] = model.sha256
    watch.call.cancel()

    folder = root / "emoji-xl"
    weights = sorted(
        folder.rglob("*.safetensors"), key=lambda path: str(path.relative_to(folder))
    )
    lines = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in weights
    )
    assert known["emoji-xl"] == hashlib.sha256(lines.encode()).hexdigest()
    ink = hashlib.sha256((root / "ink.safetensors").read_bytes()).hexdigest()
    assert known["ink"] == ink == (await get(client, "ink")).sha256


def command(running: RunningServer, *words: str) -> str:
    """What a command about models writes."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "server.cli", "--server", running.address),
            *("--token-file", str(running.data_dir / "runtime" / "token"), "models", *words),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return done.stdout + done.stderr


def test_the_command_line_finds_describes_chooses_and_deletes(
    running: RunningServer, root: Path
) -> None:
    write_safetensors(root / "墨.safetensors", LORA)
    assert "3 models" in command(running, "refresh")
    (new,) = (line.split("\t")[0] for line in command(running).splitlines() if "墨" in line)
    command(running, "update", new, "--name", "Black Tusche", "--tag", "wet", "--tag", "dark")
    assert new in command(running, "search", "tusche", "--tag", "wet")
    assert command(running, "default").strip() == "emoji-xl"
    assert command(running, "default", "emoji-xl").strip() == "emoji-xl"
    assert "is deleted" in command(running, "delete", new, "--yes")

    assert not (root / "墨.safetensors").exists()
    assert not (root / "墨.safetensors.deviceops.json").exists()
    assert "Black Tusche" not in command(running)
