"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from domains import whole_files
from domains.whole_files import begin_sync, sync_folder, whole_file

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="opens no folders")


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What was brought to the disk, file or folder, and which names were there by then."""
    found: list[tuple[str, list[str]]] = []

    def sync(handle: int) -> None:
        kind = "folder" if os.path.samestat(os.fstat(handle), tmp_path.stat()) else "file"
        found.append((kind, [name for name in os.listdir(tmp_path) if "." not in name]))

    monkeypatch.setattr(whole_files, "_FULL_SYNC", None)
    monkeypatch.setattr(os, "fsync", sync)
    return found


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [("file", []), ("folder", ["kept"])]),
        ({"named": False}, [("file", [])]),
        ({"synced": False}, []),
    ],
)
def test_content_comes_to_the_disk_before_the_name(
    tmp_path: Path,
    synced: list[tuple[str, list[str]]],
    how: dict[str, bool],
    expected: list[tuple[str, list[str]]],
) -> None:
    with whole_file(tmp_path / "kept", **how) as file:
        file.write(b"content")
    assert (tmp_path / "kept").read_bytes() == b"content"
    assert synced == expected


@pytest.mark.parametrize("code", [None, errno.ENOTTY, errno.EIO])
def test_where_the_system_has_a_sync_that_outlasts_a_cut_of_power_it_is_that(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    synced: list[tuple[str, list[str]]],
    code: int | None,
) -> None:
    """As macOS has; a file system that cannot does the other one, a failed disk is told."""
    full: list[int] = []

    def control(handle: int, command: int) -> None:
        assert command == 51
        full.append(handle)
        if code is not None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(whole_files, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", control)
    failed: type[Exception] = OSError if code == errno.EIO else ZeroDivisionError
    with contextlib.suppress(failed), whole_file(tmp_path / "kept") as file:
        file.write(b"content")
    assert full
    assert len(synced) == (2 if code == errno.ENOTTY else 0)
    assert (tmp_path / "kept").exists() == (code != errno.EIO)


@pytest.mark.parametrize("busy_seconds", [0.0, 30.0])
def test_what_others_have_open_for_a_moment_is_replaced_after_it_where_that_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy_seconds: float
) -> None:
    """As on Windows."""
    replace, refused = os.replace, [PermissionError(errno.EACCES, "Access is denied")] * 3

    def refuse(source: str, target: Path) -> None:
        if refused:
            raise refused.pop()
        replace(source, target)

    monkeypatch.setattr(whole_files, "_BUSY_SECONDS", busy_seconds)
    monkeypatch.setattr(os, "replace", refuse)
    with contextlib.suppress(PermissionError), whole_file(tmp_path / "kept") as file:
        file.write(b"content")
    assert os.listdir(tmp_path) == (["kept"] if busy_seconds else [])


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"before")
    with pytest.raises(TypeError), whole_file(tmp_path / "kept") as file:
        file.write(None)  # type: ignore[arg-type]
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_syncs_no_folders_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def sync(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", sync)
    sync_folder(tmp_path)


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def sync(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), tmp_path.stat()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="Input/output"), whole_file(tmp_path / "kept") as file:
        file.write(b"content")


def test_bringing_a_file_to_the_disk_begins_with_all_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no such call, it is written at least."""
    path, asked = tmp_path / "file", list[int]()
    monkeypatch.setattr(
        os, "posix_fadvise", lambda handle, *_: asked.append(os.fstat(handle).st_size), False
    )
    with path.open("wb") as file:
        file.write(b"12345")
        begin_sync(file)
        assert asked == [5]
        monkeypatch.delattr(os, "posix_fadvise")
        file.write(b"678")
        begin_sync(file)
        assert path.read_bytes() == b"12345678"
