"""Only regular files are opened, nothing is waited for, no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from domains.regular_files import NotRegular, TooLong, open_regular, read_regular
from tests.odd_files import ODD


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read_regular(path, 7) == b"content"
    with pytest.raises(TooLong, match="more than 6 bytes"):
        read_regular(path, 6)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_nothing_else_is_opened(tmp_path: Path, kind: str, flags: int) -> None:
    path = tmp_path / "file"
    ODD[kind](path)
    with pytest.raises(NotRegular) as refused:
        open_regular(path, flags)
    assert refused.value.filename == str(path)
    assert not (tmp_path / "nowhere").exists()


def test_a_link_is_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 100, follow=True) == b"content"
    ODD["device"](tmp_path / "zero")
    with pytest.raises(NotRegular):
        read_regular(tmp_path / "zero", 100, follow=True)


def test_what_is_opened_is_judged_and_not_what_lay_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file replaced by a pipe between the look and the opening is still refused."""
    path = tmp_path / "file"
    path.touch()
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    handles = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *_, **__: regular)
        with pytest.raises(NotRegular):
            open_regular(path)
    assert len(os.listdir("/proc/self/fd")) == handles


def test_nothing_there_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "file", 1)
    os.close(open_regular(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
