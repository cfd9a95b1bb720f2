"""A catalogue over real folders, and its upkeep, with a machine that only remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from domains.device.core.facts import TransientFacts
from domains.device.jobs import ReleaseJob
from domains.errors import DomainError
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.model_notes import NoteFiles
from domains.model.backends.removal import DiskRemover
from domains.model.core import ModelCatalogue, Upkeep
from domains.model.types import Model, ModelNotes
from domains.model.views import UpdateRequest
from domains.values import EvictionCause
from tests.domains.model.disk import sketch_demo, write_safetensors
from tests.fakes.model import contents_of

LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}
METADATA = {
    "modelspec.title": "Ink",
    "modelspec.description": "Of its own.",
    "modelspec.tags": "own",
}


@dataclass
class Session:
    session_id: str


@dataclass
class FakeUse:
    """Who uses models."""

    users: list[Session] = field(default_factory=list)

    def open(self, model_id: str) -> list[Session]:
        return self.users


@dataclass
class Component:
    model_id: str


@dataclass
class Held:
    device_id: str
    component: Component


@dataclass
class FakeMachine:
    """What lies on devices, and which jobs their workers were given."""

    on: list[Held] = field(default_factory=list)
    jobs: list[tuple[str, ReleaseJob]] = field(default_factory=list)
    use: FakeUse = field(default_factory=FakeUse)
    user_comes: bool = False
    evicted: list[str] = field(default_factory=list)
    left: list[tuple[str, str, EvictionCause]] = field(default_factory=list)

    async def evict(self, model_id: str) -> None:
        """From main memory."""
        self.evicted.append(model_id)

    @property
    def models(self) -> FakeMachine:
        return self

    def held(self) -> list[Held]:
        return self.on

    @contextmanager
    def leaving(self, model_id: str, device_id: str, cause: EvictionCause) -> Iterator[None]:
        jobs = len(self.jobs)
        yield
        assert len(self.jobs) > jobs, "told beside what takes the model off"
        self.left.append((device_id, model_id, cause))

    async def run(
        self, device_id: str, session_id: str, job: ReleaseJob, *, remaining: float
    ) -> AsyncIterator[object]:
        self.jobs.append((device_id, job))
        if self.user_comes:
            self.use.users.append(Session("late"))
        yield object()


class Catalogue:
    """The catalogue of some roots, and its upkeep."""

    def __init__(self, *roots: Path, read_only: tuple[Path, ...] = ()) -> None:
        self.facts = TransientFacts()
        self.hashes: dict[str, str] = {}
        self.contents = contents_of(
            DiskScanner(roots, read_only=read_only),
            clock=lambda: datetime.now(UTC),
            facts=self.facts,
            sha256_of=lambda model: self.hashes.get(model.model_id, ""),
        )
        self.models = ModelCatalogue(self.contents, clock=lambda: datetime.now(UTC))
        self.machine = FakeMachine()
        self.upkeep = Upkeep(
            self.models,
            self.contents,
            NoteFiles(),
            DiskRemover(),
            cast("Any", self.machine),
            lambda: cast("Any", self.machine),
            cast("Any", self.machine.use),
            cast("Any", self.machine),
            leaving=self.machine.leaving,
            read_only=read_only,
        )

    async def ids(self) -> set[str]:
        await self.contents.refresh()
        return set(self.contents.now())

    async def say(self, model_id: str, fields: str, **said: Any) -> Model:
        return await self.upkeep.update(
            UpdateRequest(model_id, ModelNotes(**said), tuple(fields.split()))
        )

    async def refusal(self, what: Any) -> DomainError:
        with pytest.raises(DomainError) as refused:
            await what
        return refused.value


def within(folder: Path) -> list[Path]:
    """What lies in a folder."""
    return list(folder.iterdir())


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def two_models(folder: Path) -> Path:
    """A LoRA, ink, and the demo model without its weights, emoji, in a root."""
    write_safetensors(folder / "ink.safetensors", LORA, metadata=METADATA)
    sketch_demo(folder / "sub" / "emoji")
    return folder
