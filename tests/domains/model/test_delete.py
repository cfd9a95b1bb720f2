"""Models that are deleted, and what stays."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from domains.device.jobs import ReleaseJob
from domains.errors import Reason
from domains.model.backends import removal
from domains.model.types import Model
from domains.values import EvictionCause
from tests.domains.model.disk import sketch_demo, write_safetensors
from tests.domains.model.test_hub_layout import FIRST, SECOND, Hub
from tests.domains.model.upkeep import (
    LORA,
    Catalogue,
    Component,
    Held,
    Session,
    two_models,
    within,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return two_models(tmp_path / "root")


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
    assert set(catalogue.contents.now()) == {"ink"}
    again = Catalogue(root)
    assert await again.ids() == {"ink"}
    assert len(within(root / "sub")) == 1
    (root / ".deviceops-deleted-mine").mkdir()  # no name of ours
    await again.upkeep.sweep()

    assert within(root / "sub") == []
    assert (root / ".deviceops-deleted-mine").exists()


async def test_a_model_whose_folder_may_not_be_written_stays_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for who is no administrator, whatever user runs the tests."""
    catalogue = Catalogue(root)
    await catalogue.ids()
    closed = root / "sub" / "emoji" / "unet"
    before = within(closed)

    def access(path: Path, how: int) -> bool:
        return Path(path) != closed

    monkeypatch.setattr(removal.os, "access", access)
    refused = await catalogue.refusal(catalogue.upkeep.delete("emoji"))

    assert refused.reason is Reason.PATH_OUTSIDE_ROOT
    assert set(catalogue.contents.now()) == {"ink", "emoji"}
    assert within(closed) == before


async def test_what_is_gone_is_not_told_as_read_only(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(root)
    await catalogue.ids()

    def forbidden(path: Path, **how: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(removal.shutil, "rmtree", forbidden)
    refused = await catalogue.refusal(catalogue.upkeep.delete("emoji"))
    assert refused.reason is Reason.STORAGE_UNAVAILABLE
    assert set(catalogue.contents.now()) == {"ink"}


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
