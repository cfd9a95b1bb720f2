"""Hashes of models: what they are over, when they are computed, how long they are known."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domains.device.core.facts import TransientFacts
from domains.device.ports import FactsStore
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.file_hashes import DiskHasher, HashedFile
from domains.model.core import hashing
from domains.model.core.contents import CatalogueContents
from domains.model.core.hashes import KnownHashes
from domains.model.core.hashing import Hashing
from domains.model.types import FileState, weights_sha256
from domains.model.views import ModelEvent
from domains.values import ModelPlace
from tests.domains.model.disk import write_safetensors
from tests.fakes.model import contents_of

PATIENCE_SECONDS = 30.0
LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}


class CountingHasher(DiskHasher):
    """Counts the files that were read, by name and model folder."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def open(self, place: ModelPlace, file: FileState) -> HashedFile:
        self.opened.append(file.name or place.path.name)
        return super().open(place, file)


class Server:
    """The catalogue of a root, and its hashing in a task."""

    def __init__(
        self, root: Path, facts: FactsStore, *, working: Callable[[], bool] = lambda: False
    ) -> None:
        self.hashes = KnownHashes(facts)
        self.hasher = CountingHasher()
        self.contents: CatalogueContents = contents_of(
            DiskScanner([root]),
            clock=lambda: datetime.now(UTC),
            facts=facts,
            sha256_of=self.hashes.of,
        )
        self.hashing = Hashing(self.contents, self.hashes, self.hasher, working=working)
        self._happened = asyncio.Event()
        self.contents.changes.subscribe(self._note)
        self._task: asyncio.Task[None] | None = None

    def _note(self, event: ModelEvent) -> None:
        self._happened.set()

    async def __aenter__(self) -> Server:
        await self.contents.known()
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        while True:
            await self.hashing.run()

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.contents.close()

    async def all_known(self) -> dict[str, str]:
        """Every model's hash, once all are known."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                found = {i: model.sha256 for i, model in self.contents.now().items()}
                if all(found.values()):
                    return found
                self._happened.clear()
                await self._happened.wait()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_hand(place: Path) -> str:
    """The hash of a folder, as a person would compute it."""
    listed = subprocess.run(
        "find . -name '*.safetensors' | cut -c3- | LC_ALL=C sort | xargs sha256sum | sha256sum",
        shell=True,
        cwd=place,
        capture_output=True,
        check=True,
        text=True,
    )
    return listed.stdout.split()[0]


def folder(root: Path, name: str = "folder") -> Path:
    """A model folder with weights in an order of its own."""
    (root / name).mkdir(parents=True)
    (root / name / "model_index.json").write_text("{}")
    for part in ("unet/b", "unet/a", "vae/diffusion", "unet-2/z"):
        write_safetensors(root / name / f"{part}.safetensors", LORA, metadata={"of": part})
    return root / name


async def test_a_file_has_its_own_hash_and_a_folder_that_of_the_list_of_its_weights(
    tmp_path: Path,
) -> None:
    ink = write_safetensors(tmp_path / "ink.safetensors", LORA)
    place = folder(tmp_path)
    async with Server(tmp_path, TransientFacts()) as server:
        known = await server.all_known()

    assert known == {"ink": sha256(ink), "folder": by_hand(place)}
    assert weights_sha256({}) == ""


async def test_small_models_come_first_and_each_is_told(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "large.safetensors", {"lora_te.x": (1 << 20,)})
    write_safetensors(tmp_path / "small.safetensors", LORA)
    async with Server(tmp_path, TransientFacts()) as server:
        told: list[ModelEvent] = []
        server.contents.changes.subscribe(told.append)
        await server.all_known()

    assert server.hasher.opened == ["small.safetensors", "large.safetensors"]
    assert [event.model.model_id for event in told] == ["small", "large"]
    assert all(event.model.sha256 for event in told)


async def test_what_is_known_outlives_the_server_until_the_file_changes(
    tmp_path: Path,
) -> None:
    facts = TransientFacts()
    file = write_safetensors(tmp_path / "ink.safetensors", LORA)
    folder(tmp_path)
    async with Server(tmp_path, facts) as server:
        first = await server.all_known()
    async with Server(tmp_path, facts) as server:
        assert await server.all_known() == first
        assert server.hasher.opened == []
        # Another content of the same size, later.
        changed = tmp_path / "folder" / "vae" / "diffusion.safetensors"
        changed.write_bytes(changed.read_bytes()[:-1] + b"\1")
        write_safetensors(tmp_path / "new.safetensors", LORA)
        await server.contents.refresh()
        second = await server.all_known()

    assert sorted(server.hasher.opened) == ["new.safetensors", "vae/diffusion.safetensors"]
    assert second["ink"] == first["ink"] == sha256(file)
    assert second["folder"] != first["folder"]


async def test_what_goes_is_forgotten(tmp_path: Path) -> None:
    facts = TransientFacts()
    file = write_safetensors(tmp_path / "ink.safetensors", LORA)
    async with Server(tmp_path, facts) as server:
        (model,) = server.contents.now().values()
        await server.all_known()
        state = file.stat()
        file.unlink()
        await server.contents.refresh()
        assert server.hashes.of(model) == ""
    write_safetensors(file, {"lora_te.other": (8, 2048)})
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    async with Server(tmp_path, facts) as server:
        assert (await server.all_known())["ink"] == sha256(file)


async def test_a_file_that_changes_while_it_is_read_gets_no_wrong_hash(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "ink.safetensors", LORA)
    reading = DiskHasher().open(
        ModelPlace.of(file), FileState("", file.stat().st_size, file.stat().st_mtime_ns)
    )
    while reading.read_on():
        pass
    with file.open("ab") as more:
        more.write(b"x")

    assert reading.sha256() == ""
    reading.close()


async def test_a_file_that_cannot_be_read_keeps_no_other_from_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(tmp_path / "bad.safetensors", LORA)
    good = write_safetensors(tmp_path / "good.safetensors", {"lora_te.x": (1 << 16,)})
    monkeypatch.setattr(hashing, "_RETRY_SECONDS", 0.01)
    async with Server(tmp_path, TransientFacts()) as server:
        original, refusals = CountingHasher.open, 0

        def refusing(self: CountingHasher, place: ModelPlace, file: FileState) -> HashedFile:
            nonlocal refusals
            if place.path.name == "bad.safetensors" and refusals < 2:
                refusals += 1
                raise OSError("a bad disk")
            return original(self, place, file)

        monkeypatch.setattr(CountingHasher, "open", refusing)
        known = await server.all_known()

    assert refusals == 2
    assert known["good"] == sha256(good)
    assert len(known["bad"]) == 64


async def test_beside_work_hashing_goes_on_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_safetensors(tmp_path / "ink.safetensors", LORA)
    os.truncate(file, 40 << 20)  # more than a piece
    pauses: list[float] = []
    original = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await original(0)

    monkeypatch.setattr(hashing.asyncio, "sleep", sleep)
    async with Server(tmp_path, TransientFacts(), working=lambda: True) as server:
        assert (await server.all_known())["ink"] == sha256(file)

    assert pauses == [hashing._BESIDE_WORK_SECONDS]


def test_a_reading_that_is_closed_in_the_middle_closes_its_file(tmp_path: Path) -> None:
    """A server that ends does not wait for a piece that is being read."""
    file = write_safetensors(tmp_path / "ink.safetensors", LORA)
    found = FileState("", file.stat().st_size, file.stat().st_mtime_ns)
    reading = DiskHasher().open(ModelPlace.of(file), found)
    with reading._reading:  # as a piece that is being read holds it
        reading.close()
        assert not reading._file.closed
    reading.read_on()
    assert reading._file.closed
