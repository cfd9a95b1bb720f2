"""What clients change of the catalogue: what is said of a model, the default, what is gone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from domains.device.core.facts import TransientFacts
from domains.device.jobs import ReleaseJob
from domains.errors import DomainError, Reason
from domains.model.backends import removal
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.backends.model_notes import NoteFiles
from domains.model.backends.removal import DiskRemover
from domains.model.core import ModelCatalogue, Upkeep
from domains.model.types import Model, ModelNotes
from domains.model.views import ModelFilter, UpdateRequest
from domains.values import EvictionCause
from tests.domains.model.disk import sketch_demo, write_safetensors
from tests.domains.model.test_hub_layout import FIRST, SECOND, Hub
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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    write_safetensors(folder / "ink.safetensors", LORA, metadata=METADATA)
    sketch_demo(folder / "sub" / "emoji")
    return folder


# Saying something of a model.


@pytest.mark.parametrize("model_id", ["ink", "emoji"])
async def test_what_is_said_of_a_model_is_kept_beside_it(root: Path, model_id: str) -> None:
    catalogue = Catalogue(root)
    before = await catalogue.models.get(model_id)
    files = contents(root)
    said = await catalogue.say(
        model_id,
        "name tags trigger_words",
        name="Tinte 墨",
        tags=("a", "b"),
        trigger_words=("inked",),
        description="not named in the mask",
    )
    again = await Catalogue(root).models.get(model_id)

    assert (said.name, said.tags, said.trigger_words) == ("Tinte 墨", ("a", "b"), ("inked",))
    assert said.description == before.description
    assert again == said
    assert (said.modified_at, said.size_bytes) == (before.modified_at, before.size_bytes)
    after = contents(root)
    assert after.items() >= files.items()
    (added,) = after.keys() - files.keys()
    assert added.name.endswith(".deviceops.json")
    found = await catalogue.models.search("tinte inked", ModelFilter(tags=("a",)))
    assert [match.model.model_id for match in found.items] == [model_id]
    # One field at a time; what is made empty is as the model's own files say again.
    await catalogue.say(model_id, "description", description="New.\nTwo lines.")
    last = await catalogue.say(model_id, "name tags")
    assert (last.name, last.tags) == (before.name, before.tags)
    assert (last.description, last.trigger_words) == ("New.\nTwo lines.", ("inked",))
    await catalogue.say(model_id, "description trigger_words")
    assert not added.exists()
    assert (await catalogue.models.get(model_id)).description == before.description


async def test_a_change_of_what_is_said_is_told(root: Path) -> None:
    catalogue = Catalogue(root)
    await catalogue.ids()
    before = catalogue.models.revision
    await catalogue.say("ink", "name", name="New")
    assert catalogue.models.revision == before + 1


@pytest.mark.parametrize(
    ("fields", "said", "reason", "where"),
    [
        ("", {}, Reason.REQUIRED_FIELD_MISSING, "update_fields"),
        ("license", {}, Reason.FIELDS_CONFLICT, "update_fields"),
        ("name " * 5, {}, Reason.TOO_MANY_ELEMENTS, "update_fields"),
        ("name", {"name": "x" * 257}, Reason.TEXT_TOO_LONG, "model.name"),
        ("name", {"name": "a\nb"}, Reason.TEXT_INVALID, "model.name"),
        ("tags", {"tags": ("x",) * 65}, Reason.TOO_MANY_ELEMENTS, "model.tags"),
        ("tags", {"tags": ("x" * 65,)}, Reason.TEXT_TOO_LONG, "model.tags[0]"),
        ("description", {"description": "\0"}, Reason.TEXT_INVALID, "model.description"),
    ],
)
async def test_what_cannot_be_said_is_refused_with_its_field(
    root: Path, fields: str, said: dict[str, Any], reason: Reason, where: str
) -> None:
    catalogue = Catalogue(root)
    refused = await catalogue.refusal(catalogue.say("ink", fields, **said))

    assert [(v.field, v.reason) for v in refused.violations] == [(where, reason)]
    assert not any(path.suffix == ".json" for path in within(root))


@pytest.mark.parametrize("content", ["", "{", '{"type":"ModelNotes","name":5}', "x" * 70_000])
async def test_notes_that_are_none_cost_the_model_nothing(root: Path, content: str) -> None:
    (root / "ink.safetensors.deviceops.json").write_text(content)
    catalogue = Catalogue(root)

    assert (await catalogue.models.get("ink")).name == "Ink"
    assert (await catalogue.say("ink", "name", name="New")).name == "New"


async def test_notes_that_are_a_link_or_a_pipe_are_left_alone(
    root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"type":"ModelNotes","name":"stolen"}')
    (root / "ink.safetensors.deviceops.json").symlink_to(outside)
    os.mkfifo(root / "sub" / "emoji.deviceops.json")
    catalogue = Catalogue(root)

    assert (await catalogue.models.get("ink")).name == "Ink"
    await catalogue.models.get("emoji")
    await catalogue.say("ink", "name", name="New")
    assert "stolen" in outside.read_text()


@pytest.mark.parametrize("what", ["update", "delete"])
async def test_a_read_only_root_stays_as_it_is(root: Path, what: str) -> None:
    catalogue = Catalogue(root, read_only=(root,))
    call = catalogue.say("ink", "name", name="x") if what == "update" else None
    refused = await catalogue.refusal(call or catalogue.upkeep.delete("ink"))

    assert refused.code == 7
    assert refused.reason is Reason.PATH_OUTSIDE_ROOT
    assert await catalogue.ids() == {"ink", "emoji"}


@pytest.mark.parametrize("what", ["update", "delete"])
async def test_a_root_that_is_a_model_is_neither_changed_nor_deleted(
    root: Path, what: str
) -> None:
    catalogue = Catalogue(root / "sub" / "emoji")
    assert (await catalogue.models.get("emoji")).read_only
    call = catalogue.say("emoji", "name", name="x") if what == "update" else None
    refused = await catalogue.refusal(call or catalogue.upkeep.delete("emoji"))

    assert refused.reason is Reason.PATH_OUTSIDE_ROOT
    assert (root / "sub" / "emoji" / "model_index.json").exists()


# The default.


async def test_a_model_that_is_made_the_default_is_it_from_then_on(root: Path) -> None:
    sketch_demo(root / "zebra")
    catalogue = Catalogue(root)
    assert (await catalogue.models.get("")).model_id == "emoji"
    chosen = await catalogue.upkeep.choose_default("zebra")

    assert chosen.is_default
    assert (await catalogue.models.get("")).model_id == "zebra"
    assert not (await catalogue.models.get("emoji")).is_default
    for model_id, reason in (
        ("", Reason.REQUIRED_FIELD_MISSING),
        ("ink", Reason.MODEL_NOT_FOUND),
        ("gone", Reason.MODEL_NOT_FOUND),
    ):
        refused = await catalogue.refusal(catalogue.upkeep.choose_default(model_id))
        assert reason in (refused.reason, *(v.reason for v in refused.violations))
    assert (await catalogue.models.get("")).model_id == "zebra"


# Deleting.


async def test_a_model_is_deleted_with_what_is_kept_of_it_and_nothing_else(root: Path) -> None:
    write_safetensors(root / "ink.v2.safetensors", LORA)
    catalogue = Catalogue(root)
    await catalogue.say("ink", "name", name="New")
    size = (root / "ink.safetensors").stat().st_size
    freed = await catalogue.upkeep.delete("ink")

    assert freed == size
    assert sorted(path.name for path in within(root)) == ["ink.v2.safetensors", "sub"]
    assert set(catalogue.contents.now()) == {"ink.v2", "emoji"}
    emoji = (await catalogue.models.get("emoji")).size_bytes
    assert await catalogue.upkeep.delete("emoji") == emoji
    assert await catalogue.ids() == {"ink.v2"}
    assert within(root / "sub") == []


async def test_the_model_that_is_deleted_is_the_one_that_was_meant(root: Path) -> None:
    catalogue = Catalogue(root)
    sha256 = hashlib.sha256(b"x").hexdigest()
    unknown = await catalogue.refusal(catalogue.upkeep.delete("ink", sha256))
    catalogue.hashes["ink"] = "5" * 64
    catalogue.contents.tell_hash("ink")
    other = await catalogue.refusal(catalogue.upkeep.delete("ink", sha256))
    wrong = await catalogue.refusal(catalogue.upkeep.delete("ink", "xyz"))

    assert unknown.reason is other.reason is Reason.STATE_CONFLICT
    assert "no hash yet" in unknown.message
    assert wrong.code == 3
    assert await catalogue.ids() == {"ink", "emoji"}
    await catalogue.upkeep.delete("ink", "5" * 64)
    assert await catalogue.ids() == {"emoji"}


async def test_what_work_uses_stays(root: Path) -> None:
    catalogue = Catalogue(root)
    catalogue.machine.use.users = [Session("s1")]
    refused = await catalogue.refusal(catalogue.upkeep.delete("ink"))

    assert refused.reason is Reason.MODEL_IN_USE
    assert refused.metadata["session_ids"] == "s1"
    assert await catalogue.ids() == {"ink", "emoji"}


async def test_a_model_leaves_devices_first_and_stays_for_who_came_meanwhile(
    root: Path,
) -> None:
    catalogue = Catalogue(root)
    catalogue.machine.on = [
        Held(device, Component(name))
        for device, name in (("cuda:0", "ink"), ("cpu:0", "ink"), ("cpu:0", "emoji"))
    ]
    catalogue.machine.user_comes = True
    refused = await catalogue.refusal(catalogue.upkeep.delete("ink"))
    assert refused.reason is Reason.MODEL_IN_USE
    assert catalogue.machine.jobs == [
        ("cpu:0", ReleaseJob(("ink",))),
        ("cuda:0", ReleaseJob(("ink",))),
    ]
    assert catalogue.machine.evicted == ["ink"]
    requested = EvictionCause.REQUESTED
    assert catalogue.machine.left == [("cpu:0", "ink", requested), ("cuda:0", "ink", requested)]
    assert "ink" in catalogue.contents.now()
    catalogue.machine.user_comes = False
    catalogue.machine.use.users.clear()
    await catalogue.upkeep.delete("ink")
    assert await catalogue.ids() == {"emoji"}


async def test_a_deletion_goes_on_when_its_caller_gives_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(root)
    await catalogue.ids()
    begun, go_on = asyncio.Event(), asyncio.Event()
    release = catalogue.upkeep._release

    async def slow(model: Model) -> None:
        begun.set()
        await go_on.wait()
        await release(model)

    monkeypatch.setattr(catalogue.upkeep, "_release", slow)
    call = asyncio.create_task(catalogue.upkeep.delete("ink"))
    await begun.wait()
    assert "ink" not in await catalogue.ids(), "from the first moment nobody can use it"
    call.cancel()
    await asyncio.wait([call])
    (left,) = catalogue.upkeep._removals
    go_on.set()
    await left

    assert await catalogue.ids() == {"emoji"}
    assert not (root / "ink.safetensors").exists()


async def test_a_link_to_a_model_is_deleted_alone(root: Path) -> None:
    (root / "b.safetensors").symlink_to(root / "ink.safetensors")
    (root / "emoji-2").symlink_to(root / "sub" / "emoji")
    catalogue = Catalogue(root)
    names = await catalogue.ids()
    linked = [i for i in names if i in ("b", "emoji-2")]
    for model_id in linked:
        assert await catalogue.upkeep.delete(model_id) == 0

    assert (root / "ink.safetensors").exists()
    assert (root / "sub" / "emoji" / "model_index.json").exists()
    assert linked


async def test_a_deletion_that_breaks_off_leaves_no_half_model(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once renamed it is gone from the list; the next server deletes what is left of it."""
    catalogue = Catalogue(root)
    await catalogue.ids()

    def breaks(path: Path, **how: Any) -> None:
        raise OSError("the machine stops here")

    with monkeypatch.context() as patched:
        patched.setattr(removal.shutil, "rmtree", breaks)
        refused = await catalogue.refusal(catalogue.upkeep.delete("emoji"))
    assert refused.reason is Reason.STORAGE_UNAVAILABLE
    again = Catalogue(root)
    assert await again.ids() == {"ink"}
    assert len(within(root / "sub")) == 1
    (root / ".deviceops-deleted-mine").mkdir()  # no name of ours
    await again.upkeep.sweep()

    assert within(root / "sub") == []
    assert (root / ".deviceops-deleted-mine").exists()


async def test_what_is_left_in_a_read_only_root_stays(root: Path) -> None:
    left = root / f".deviceops-deleted-{'0' * 32}"
    left.mkdir()
    await Catalogue(root, read_only=(root,)).upkeep.sweep()
    assert left.exists()
    await Catalogue(root).upkeep.sweep()
    assert not left.exists()


async def test_a_folder_that_has_become_a_link_is_not_followed(
    root: Path, tmp_path: Path
) -> None:
    """Neither out of the root nor to another model in it."""
    catalogue = Catalogue(root)
    await catalogue.ids()
    outside = tmp_path / "outside"
    shutil.move(root / "sub", outside)
    (root / "sub").symlink_to(outside)
    refused = await catalogue.refusal(catalogue.upkeep.delete("emoji"))

    assert refused.reason is Reason.PATH_OUTSIDE_ROOT
    assert (outside / "emoji" / "model_index.json").exists()


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    made = Hub(tmp_path / "hub")
    files = sketch_demo(tmp_path / "files")
    made.snapshot("acme--pictures", FIRST, files)
    (files / "README.md").write_text("changed")
    made.snapshot("acme--pictures", SECOND, files, main=True)
    return made


async def test_of_the_hubs_cache_what_other_revisions_use_stays(hub: Hub) -> None:
    repository = hub.path / "models--acme--pictures"
    catalogue = Catalogue(hub.path)
    blobs = len(within(repository / "blobs"))
    freed = await catalogue.upkeep.delete("acme--pictures--aaaaaaaa")

    assert await catalogue.ids() == {"acme--pictures"}
    assert (await catalogue.models.get("acme--pictures")).usable
    assert 0 <= blobs - len(within(repository / "blobs")) <= 1
    assert freed < 10_000
    left = sum(path.stat().st_size for path in within(repository / "blobs"))
    assert await catalogue.upkeep.delete("acme--pictures") >= left
    assert await catalogue.ids() == set()
    assert not repository.exists()


async def test_a_file_of_a_snapshot_goes_with_its_blob_and_no_other(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")
    for name in ("a", "b"):
        write_safetensors(
            tmp_path / "files" / f"{name}.safetensors", LORA, metadata={"n": name}
        )
    hub.snapshot("acme--loras", FIRST, tmp_path / "files", main=True)
    catalogue = Catalogue(hub.path)
    assert await catalogue.ids() == {"a", "b"}
    size = (await catalogue.models.get("a")).size_bytes
    assert await catalogue.upkeep.delete("a") == size

    assert await catalogue.ids() == {"b"}
    blobs = hub.path / "models--acme--loras" / "blobs"
    (left,) = within(blobs)
    header = left.read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert b'"n": "b"' in header
