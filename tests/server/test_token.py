"""The token file: made once, kept, and trusted only while nobody else can read it."""

from __future__ import annotations

import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server import token
from server.token import TokenError

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


def test_is_made_at_first_and_kept_after(tmp_path: Path) -> None:
    path = tmp_path / "runtime" / "token"
    first = token.load_or_create(path)
    assert len(first) >= 43  # 32 bytes in base64
    assert token.load_or_create(path) == first == token.read(path)
    assert token.load_or_create(tmp_path / "other" / "token") != first


@posix
def test_file_and_folder_are_the_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "runtime" / "token"
    before = os.umask(0)
    try:
        token.load_or_create(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    secret = token.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(TokenError, match="is open to other users") as caught:
        token.load_or_create(path)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("text", ["", "short\n", "ÿ" * 40])
def test_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(TokenError, match="token file"):
        token.load_or_create(path)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 40 + "\n" + "b" * 40,
        "a" * 40 + " " + "b" * 40,
        "a" * 40 + "\r\nx: y",
        "a" * 40 + "\x7f",
        "a" * 40 + "\0",
    ],
)
def test_more_than_one_line_is_refused_and_never_run_together(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(TokenError, match="more than one word on one line"):
        token.load_or_create(path)


def test_a_file_of_many_bytes_is_refused_and_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TokenError, match="more than 4096 bytes"):
        token.read(path)
    path.write_text("a" * token.LONGEST_BYTES)
    assert token.read(path) == "a" * token.LONGEST_BYTES


def test_a_file_with_a_line_break_at_its_end_or_none_is_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    for end in ("", "\n", "\r\n"):
        path.write_text("a" * 40 + end, newline="")
        assert token.read(path) == "a" * 40


def test_missing_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="There is no token file"):
        token.read(tmp_path / "token")


def test_many_starters_agree_and_leave_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: token.load_or_create(path), range(64)))
    assert len(tokens) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_works_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    secret = token.load_or_create(tmp_path / "token")
    assert token.read(tmp_path / "token") == secret
