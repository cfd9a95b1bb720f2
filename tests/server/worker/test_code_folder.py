"""Compiled code is unpacked where nobody else can put anything."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

import pytest

from domains import private_folders
from server.worker.child import code_folder
from server.worker.child.code_folder import prepare_code_dir

NAMES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> MutableMapping[str, str]:
    """One in which somebody chose a folder for all."""
    monkeypatch.setenv("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "1")
    for name in NAMES:
        monkeypatch.setenv(name, "/tmp/for-all")
    return os.environ  # noqa: TID251 - as it is for libraries


def test_what_is_unpacked_lies_in_the_code_folder(
    tmp_path: Path, environment: MutableMapping[str, str]
) -> None:
    code_dir = tmp_path / "compiled"
    assert prepare_code_dir(code_dir, "cuda:0") == code_dir
    unpacked, kernels = (Path(environment[name]) for name in NAMES)
    assert unpacked.parent == kernels.parent == code_dir
    # They would lie elsewhere.
    assert environment["TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"] == "0"
    for each in (code_dir, unpacked, kernels):
        assert each.stat().st_mode & 0o777 == private_folders.PRIVATE
    prepare_code_dir(code_dir, "cuda:1")
    assert Path(environment[NAMES[0]]) != unpacked, "every worker has its own"


def test_a_worker_begins_with_nothing_unpacked(
    tmp_path: Path, environment: MutableMapping[str, str]
) -> None:
    prepare_code_dir(tmp_path, "cpu")
    kept = tmp_path / "key"
    unpacked, kernels = (Path(environment[name]) for name in NAMES)
    for folder in (kept, unpacked / "aotautograd", kernels / "one"):
        folder.mkdir()
        (folder / "file").write_text("of the worker before")
    prepare_code_dir(tmp_path, "cpu")
    assert list(unpacked.iterdir()) == []
    assert (kept / "file").exists()
    assert (kernels / "one" / "file").exists(), "it would be compiled again"


def test_kernels_do_not_become_ever_more(
    tmp_path: Path, environment: MutableMapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_code_dir(tmp_path, "cpu")
    kernels = Path(environment[NAMES[1]])
    for name in ("one", "0/two", "0/three"):
        (kernels / name).mkdir(parents=True)
    monkeypatch.setattr(code_folder, "_MOST_KERNELS", 4)  # and the folder of a device
    prepare_code_dir(tmp_path, "cpu")
    assert (kernels / "0" / "two").exists()
    (kernels / "four").mkdir()
    prepare_code_dir(tmp_path, "cpu")
    assert list(kernels.iterdir()) == []


def test_a_folder_that_cannot_be_had_leaves_plain_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise private_folders.FolderRefused(f"{folder} belongs to another user")

    monkeypatch.setattr(code_folder.private_folders, "prepare", refuse)
    assert prepare_code_dir(tmp_path, "cpu") is None


def test_without_a_code_folder_nothing_is_settled(
    environment: MutableMapping[str, str],
) -> None:
    assert prepare_code_dir(None, "cpu") is None
    assert [environment[name] for name in NAMES] == ["/tmp/for-all"] * 2
