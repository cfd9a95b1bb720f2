"""Hugging Face's cache as a model root, and roots that are themselves models."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from domains.model.backends.confined_files import ConfinedFiles
from domains.model.backends.disk_scanner import DiskScanner
from domains.model.types import Model
from domains.model.views import Scan
from tests.domains.model.disk import copy_demo, sketch_demo, write_safetensors

LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": (8, 2048)}
FIRST, SECOND, THIRD = (digit * 40 for digit in "abc")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="making links takes rights there")


class Hub:
    """A cache as huggingface_hub makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / ".locks" / "models--x--y").mkdir(parents=True)
        (path / "version.txt").write_text("1")

    def repository(self, name: str, kind: str = "models") -> Path:
        folder = self.path / f"{kind}--{name}"
        for part in ("blobs", "refs", "snapshots", ".no_exist"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        return folder

    def snapshot(self, name: str, revision: str, files: Path, *, main: bool = False) -> Path:
        """Put the files of a folder into the cache."""
        repository = self.repository(name)
        place = repository / "snapshots" / revision
        for file in sorted(files.rglob("*")):
            if not file.is_file():
                continue
            blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            if not blob.exists():
                shutil.copyfile(file, blob)
            link = place / file.relative_to(files)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        if main:
            (repository / "refs" / "main").write_text(revision)
        return place


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model of the hub."""
    return sketch_demo(tmp_path_factory.mktemp("files") / "model")


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


def scan(*roots: Path) -> Scan:
    return DiskScanner(roots).scan()


def ids(found: Scan) -> dict[str, Model]:
    return {model.model_id: model for model in found.models}


def test_a_model_of_the_hub_has_the_name_of_its_repository(hub: Hub, files: Path) -> None:
    hub.snapshot("acme--pictures-1.0", FIRST, files, main=True)
    hub.snapshot("old", FIRST, files)
    found = scan(hub.path)

    assert set(ids(found)) == {"acme--pictures-1.0", "old"}
    assert all(model.usable for model in found.models)
    model = ids(found)["acme--pictures-1.0"]
    assert model.aliases == ("acme--pictures-1.0--aaaaaaaa",)
    assert found.problems == ()


def test_a_repository_without_a_card_is_shown_as_people_write_it(
    hub: Hub, tmp_path: Path
) -> None:
    write_safetensors(tmp_path / "lora" / "pytorch_lora_weights.safetensors", LORA)
    write_safetensors(tmp_path / "lora" / "extra" / "Fancy Ink.safetensors", LORA)
    hub.snapshot("acme--ink", FIRST, tmp_path / "lora")
    found = ids(scan(hub.path))

    assert {i: model.name for i, model in found.items()} == {
        "acme--ink": "acme/ink",
        "Fancy-Ink": "Fancy Ink",
    }


def test_of_several_revisions_the_one_that_the_name_stands_for_has_it(
    hub: Hub, files: Path
) -> None:
    hub.snapshot("acme--pictures", FIRST, files)
    hub.snapshot("acme--pictures", SECOND, files, main=True)
    assert set(ids(scan(hub.path))) == {"acme--pictures", "acme--pictures--aaaaaaaa"}
    assert ids(scan(hub.path))["acme--pictures"].place.path.name == SECOND
    # As long as none is named, none has the name alone.
    (hub.repository("acme--pictures") / "refs" / "main").write_text("../../x")
    assert set(ids(scan(hub.path))) == {
        "acme--pictures--aaaaaaaa",
        "acme--pictures--bbbbbbbb",
    }


def test_a_revision_that_is_alone_answers_to_its_number_before_and_after(
    hub: Hub, files: Path
) -> None:
    hub.snapshot("acme--pictures", FIRST, files)
    scanner = DiskScanner([hub.path])
    before = scanner.scan().models[0]
    hub.snapshot("acme--pictures", SECOND, files, main=True)
    after = ids(scanner.scan())

    assert before.model_id == "acme--pictures"
    pinned = "acme--pictures--aaaaaaaa"
    assert before.aliases == (pinned,)
    assert after[pinned].place == before.place


@pytest.mark.parametrize("below", ["", "snapshots", f"snapshots/{FIRST}"])
def test_a_part_of_the_cache_may_be_a_root(hub: Hub, files: Path, below: str) -> None:
    """A snapshot's links lead into the blobs of its own repository."""
    hub.snapshot("acme--pictures", FIRST, files, main=True)
    root = hub.path / "models--acme--pictures" / below
    found = scan(root)

    assert list(ids(found)) == ["acme--pictures"]
    assert found.models[0].usable
    assert found.problems == ()
    weights = ConfinedFiles(found.models[0].place).open(found.models[0].weights[0].name)
    assert weights.read(1)
    weights.close()
    assert all(folder.is_relative_to(hub.path) for folder in found.folders[root])


@pytest.mark.parametrize("below", ["", f"snapshots/{FIRST}"])
def test_no_link_leaves_the_repository(
    hub: Hub, files: Path, tmp_path: Path, below: str
) -> None:
    snapshot = hub.snapshot("acme--pictures", FIRST, files)
    other = hub.repository("acme--other") / "blobs" / "stolen"
    other.write_bytes(b"x")
    (snapshot / "vae" / "config.json").unlink()
    (snapshot / "vae" / "config.json").symlink_to(other)
    found = scan(hub.path / "models--acme--pictures" / below)

    assert found.models == ()
    assert "PATH_OUTSIDE_ROOT" in found.problems[0]


def test_what_else_the_cache_holds_is_no_model(hub: Hub, files: Path, tmp_path: Path) -> None:
    hub.snapshot("acme--pictures", FIRST, files)
    repository = hub.repository("acme--pictures")
    write_safetensors(repository / "blobs" / "part.safetensors", LORA)
    write_safetensors(repository / "refs" / "odd.safetensors", LORA)
    (repository / "blobs" / "x.incomplete").write_bytes(b"x")
    for kind in ("datasets", "spaces"):
        folder = hub.repository("acme--d", kind) / "snapshots" / FIRST
        write_safetensors(folder / "data.safetensors", LORA)
    write_safetensors(hub.path / ".locks" / "models--x--y" / "l.safetensors", LORA)
    found = scan(hub.path)

    assert list(ids(found)) == ["acme--pictures"]
    assert found.problems == ()


def test_a_folder_that_is_called_like_a_snapshot_and_is_none_is_a_folder(
    tmp_path: Path,
) -> None:
    write_safetensors(tmp_path / "models--" / "snapshots" / "x" / "model.safetensors", LORA)
    write_safetensors(tmp_path / "models--a--b" / "ink.safetensors", LORA)
    assert set(ids(scan(tmp_path))) == {"x", "ink"}


def test_a_root_that_is_a_model_is_that_model(tmp_path: Path) -> None:
    root = copy_demo(tmp_path / "my-sdxl")
    write_safetensors(root / "sub" / "ink.safetensors", LORA)
    scanner = DiskScanner([root])
    (model,) = scanner.scan().models

    assert model.model_id == "my-sdxl"
    assert model.usable
    assert model.place.path == root
    assert {part.name for part in model.components} >= {"unet", "vae"}
    assert scanner.scan().models[0] is model
    (root / "unet" / "config.json").unlink()
    assert not scanner.scan().models[0].usable


@pytest.mark.parametrize("configured", [True, False])
def test_a_root_that_nobody_may_write_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: bool
) -> None:
    for name in ("a", "b"):
        write_safetensors(tmp_path / name / f"{name}.safetensors", LORA)
    roots = [tmp_path / "a", tmp_path / "b"]
    if configured:
        scanner = DiskScanner(roots, read_only=[tmp_path / "b"])
    else:
        access = os.access  # this test's user may write everywhere
        monkeypatch.setattr(
            os, "access", lambda path, how: path != roots[1] and access(path, how)
        )
        scanner = DiskScanner(roots)

    found = scanner.scan()
    assert {m.model_id: m.read_only for m in found.models} == {"a": False, "b": True}
    assert scanner.scan().models[0] is found.models[0]
