"""Files that paused work goes on from: whole, bounded, and gone with the server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from domains.codec import Count, Value
from domains.paused_work import NotKept, PausedFolder, read_kept, write_kept


class Something(Value, frozen=True):
    """A value."""

    number: Count


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "paused" / "one"
    write_kept(path, Something(3), 100)
    assert read_kept(path, Something, 100) == Something(3)


def test_what_is_too_large_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "one"
    write_kept(path, Something(3), 100)
    with pytest.raises(NotKept, match="bytes"):
        write_kept(path, "x" * 200, 100)
    assert read_kept(path, Something, 100) == Something(3)
    assert list(tmp_path.iterdir()) == [path]


def test_another_value_or_a_longer_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "one"
    write_kept(path, Something(-1), 100)  # the type's own bound
    with pytest.raises(NotKept, match="damaged"):
        read_kept(path, Something, 100)
    with pytest.raises(NotKept, match="gone"):
        read_kept(path, Something, 1)


def test_a_new_server_deletes_its_own_files_and_no_others(tmp_path: Path) -> None:
    folder = PausedFolder(tmp_path / "paused")
    folder.sweep()
    path = folder.new()
    assert folder.new() != path
    write_kept(path, Something(3), 100)
    left = path.with_name(f"{path.name}.abcd1234.part")
    other = path.with_name("mine.txt")
    for each in (left, other):
        each.write_bytes(b"x")
    folder.sweep()
    assert list((tmp_path / "paused").iterdir()) == [other]
    folder.remove(path)  # nothing lies there


@pytest.mark.skipif(os.name != "posix", reason="Windows has no mode bits")
def test_a_folder_that_cannot_be_swept_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("domains.paused_work.prepare", refuse)
    PausedFolder(tmp_path / "paused").sweep()
    assert "could not be swept" in caplog.text
