"""Folders of the server's own: there, private, and nobody else's."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from domains.private_folders import FolderRefused, prepare
from domains.set_aside import is_aside, set_aside
from tests.odd_files import ODD


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_missing_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        prepare(tmp_path / "data" / "place")
    finally:
        os.umask(before)
    assert mode(tmp_path / "data") == mode(tmp_path / "data" / "place") == 0o700


@pytest.mark.parametrize("wrong", [0o777, 0o755, 0o500, 0o000])
def test_another_mode_is_corrected_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: int
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(wrong)
    prepare(place)
    prepare(place)
    assert mode(place) == 0o700
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def plain_file(path: Path) -> None:
    path.write_bytes(b"mine")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [plain_file, *(ODD[kind] for kind in ODD if kind != "folder")])
def test_what_is_no_folder_is_set_aside(tmp_path: Path, make: object) -> None:
    place = tmp_path / "place"
    make(place)  # type: ignore[operator]
    was = place.lstat()
    prepare(place)
    assert mode(place) == 0o700
    assert not place.is_symlink()
    (kept,) = (entry for entry in tmp_path.iterdir() if entry.name != "place")
    assert is_aside(kept.name)
    assert kept.lstat().st_ino == was.st_ino


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_refused_in_a_sentence(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, 12345, -1)
    with pytest.raises(FolderRefused, match=r"place belongs to another user \(id 12345\).*\.$"):
        prepare(place)


def test_what_is_set_aside_keeps_its_content_and_says_so_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    kept = set_aside(tmp_path / "file", "it is damaged")
    assert kept.read_bytes() == b"content"
    assert is_aside(kept.name)
    assert is_aside(kept.name + "-wal")
    assert not any(map(is_aside, ("file", "unusable", "file.unusable-", "file.unusable-x")))
