"""Artifacts on disk: what a file is, and what lies beside it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domains.artifact.backends.folder import ArtifactFolder, media_type
from domains.artifact.errors import StorageUnavailable
from domains.artifact.types import MOST_SESSIONS, Claim, Holding, LabelChange, StoredFile
from domains.clients import DEFAULT_CLIENT

posix = pytest.mark.skipif(os.name != "posix", reason="opens no folders")
PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
PNG_ID = hashlib.sha256(PNG).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactFolder:
    folder = ArtifactFolder(tmp_path / "artifacts")
    assert folder.scan() == []
    return folder


def claim(session_id: str, owner: str = DEFAULT_CLIENT) -> Claim:
    return Claim(owner, datetime.now(UTC), session_id)


def sessions(stored: StoredFile) -> tuple[str, ...]:
    """The sessions of a file that has one owner."""
    (holding,) = stored.holdings.values()
    return holding.session_ids


def finished(tmp_path: Path) -> Path:
    path = tmp_path / "finished"
    path.write_bytes(PNG)
    return path


def test_what_becomes_visible_is_on_disk(
    folder: ArtifactFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it need not have seen to that."""
    path, target = finished(tmp_path), tmp_path / "artifacts" / PNG_ID
    real = os.fsync

    def broken(handle: int) -> None:
        if os.path.sameopenfile(handle, ours.fileno()):
            raise OSError(errno.EIO, "Input/output error")
        real(handle)

    with path.open("rb") as ours:
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(StorageUnavailable):
            folder.adopt(path, PNG_ID, claim("one"))
    assert path.exists()
    assert not target.exists()
    monkeypatch.setattr(os, "fsync", real)
    folder.adopt(path, PNG_ID, claim("one"))
    assert target.read_bytes() == PNG


@posix
def test_a_power_cut_leaves_what_was_told_as_kept(
    folder: ArtifactFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name and that of its sidecar, when they are new and when they are changed."""
    path, synced = tmp_path / "artifacts", dict[str, int]()
    real = os.fsync

    def files() -> dict[str, int]:
        return {each.name: each.stat().st_ino for each in path.iterdir()}

    def sync(handle: int) -> None:
        real(handle)
        if os.path.samestat(os.fstat(handle), path.stat()):
            synced.update(files())

    monkeypatch.setattr(os, "fsync", sync)
    for change in (
        lambda: folder.adopt(finished(tmp_path), PNG_ID, claim("one")),
        lambda: folder.adopt(finished(tmp_path), PNG_ID, claim("two")),
        lambda: folder.note(PNG_ID, {"ann": Holding(pinned=True)}),
    ):
        change()
        assert files().keys() == {PNG_ID, f"{PNG_ID}.json"}
        assert synced == files()


def test_the_sidecar_of_the_first_version_is_still_read(
    folder: ArtifactFolder, tmp_path: Path
) -> None:
    """It named one session, and knew no others."""
    (tmp_path / "artifacts" / PNG_ID).write_bytes(PNG)
    sidecar = tmp_path / "artifacts" / f"{PNG_ID}.json"
    sidecar.write_text('{"session_id": "the-first"}')

    assert [sessions(stored) for stored in folder.scan()] == [("the-first",)]

    again = folder.adopt(finished(tmp_path), PNG_ID, claim("the-second"))
    assert sessions(again) == ("the-first", "the-second")
    assert folder.scan() == [again]


def test_an_upload_of_the_first_version_has_no_session(
    folder: ArtifactFolder, tmp_path: Path
) -> None:
    (tmp_path / "artifacts" / PNG_ID).write_bytes(PNG)
    (tmp_path / "artifacts" / f"{PNG_ID}.json").write_text('{"session_id": ""}')

    assert [sessions(stored) for stored in folder.scan()] == [()]


def test_a_sidecar_of_before_labels_is_still_read(
    folder: ArtifactFolder, tmp_path: Path
) -> None:
    (tmp_path / "artifacts" / PNG_ID).write_bytes(PNG)
    (tmp_path / "artifacts" / f"{PNG_ID}.json").write_text(
        '{"type":"_Content","holdings":{"ann":{"type":"Holding","session_ids":["hers"],'
        '"create_time":"2026-01-02T03:04:05Z","pinned":true,"retention_seconds":120.0}},'
        '"session_ids":[],"session_id":""}'
    )

    (stored,) = folder.scan()

    made = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    before = Holding(("hers",), made, pinned=True, retention_seconds=120.0)
    assert stored.holdings == {"ann": before}
    folder.note(PNG_ID, {"ann": before.changed(None, None, LabelChange({"a": "1"}))})
    (labelled,) = folder.scan()
    assert labelled.holdings["ann"].labels == {"a": "1"}
    assert labelled.holdings["ann"].session_ids == ("hers",)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"sessions": 1}', '{"session_ids": ["../etc"]}', "\xff"]
)
def test_a_sidecar_that_cannot_be_read_costs_the_sessions_and_not_the_picture(
    folder: ArtifactFolder, tmp_path: Path, content: str
) -> None:
    (tmp_path / "artifacts" / PNG_ID).write_bytes(PNG)
    sidecar = tmp_path / "artifacts" / f"{PNG_ID}.json"
    sidecar.write_text(content, "latin-1")

    assert [sessions(stored) for stored in folder.scan()] == [()]

    assert folder.adopt(finished(tmp_path), PNG_ID, claim("again")).holdings[
        DEFAULT_CLIENT
    ].session_ids == ("again",)


def test_of_very_many_sessions_the_first_and_the_newest_are_remembered(
    folder: ArtifactFolder, tmp_path: Path
) -> None:
    folder.adopt(finished(tmp_path), PNG_ID, claim("s0"))
    sidecar = tmp_path / "artifacts" / f"{PNG_ID}.json"
    names = [f"s{number}" for number in range(MOST_SESSIONS)]
    sidecar.write_text(json.dumps({"session_ids": names}))

    kept = folder.adopt(finished(tmp_path), PNG_ID, claim("newest"))

    assert sessions(kept) == ("s0", *names[2:], "newest")
    assert folder.scan() == [kept]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
        (b"", "application/octet-stream"),
        (b"RIFF\x00\x00\x00\x00WAVE", "application/octet-stream"),
    ],
)
def test_content_is_known_by_its_first_bytes(head: bytes, expected: str) -> None:
    assert media_type(head) == expected
