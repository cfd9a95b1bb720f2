"""The list of tokens: made with the first, changed by one at a time, trusted only whole."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domains.clients import Role
from server import lock, token
from server.token import TokenError
from server.token_list import (
    LONGEST_BYTES,
    MOST_TOKENS,
    LastAdmin,
    NamedToken,
    NameTaken,
    NoSuchToken,
    TokenFiles,
    TokenList,
    hashed,
)
from tests.odd_files import ODD

posix = pytest.mark.skipif(sys.platform == "win32", reason="file modes are POSIX")


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    return TokenFiles(tmp_path / "token")


def facts(tokens: TokenList) -> list[tuple[str, Role]]:
    return [(one.name, one.role) for one in tokens.tokens]


def written(files: TokenFiles) -> TokenList:
    tokens = files.read()
    assert tokens is not None
    return tokens


DEFAULT = ("default", Role.ADMIN)


def test_the_first_start_makes_one_admin_token_and_the_next_finds_it(files: TokenFiles) -> None:
    tokens, trouble = files.settled()
    assert (facts(tokens), trouble) == ([DEFAULT], "")
    secret = token.read(files.first)
    assert tokens.tokens[0].sha256 == hashed(secret)
    assert files.settled() == (tokens, "")
    assert token.read(files.first) == secret
    assert written(files) == tokens


def test_a_server_of_before_there_was_a_list_keeps_its_token(files: TokenFiles) -> None:
    secret = token.load_or_create(files.first)
    tokens, _ = files.settled()
    assert [one.sha256 for one in tokens.tokens] == [hashed(secret)]


def test_tokens_are_added_before_and_after_the_first_start(files: TokenFiles) -> None:
    first = files.add("ann", Role.RUN)
    files.settled()
    second = files.add("bob", Role.READ)
    tokens = written(files)
    assert facts(tokens) == [DEFAULT, ("ann", Role.RUN), ("bob", Role.READ)]
    assert [one.sha256 for one in tokens.tokens[1:]] == [hashed(first), hashed(second)]
    assert len(first) >= 43  # 32 bytes in base64
    assert first != second


def test_no_file_but_the_first_token_s_holds_a_token(files: TokenFiles) -> None:
    secrets = [files.add("ann", Role.RUN), token.read(files.first)]
    texts = [path.read_text() for path in files.list.parent.iterdir() if path != files.first]
    assert not any(secret in text for secret in secrets for text in texts)
    assert not any(one.sha256 in repr(written(files)) for one in written(files).tokens)


def test_a_name_is_given_once(files: TokenFiles) -> None:
    files.add("ann", Role.RUN)
    with pytest.raises(NameTaken, match="There is a token named ann"):
        files.add("ann", Role.READ)
    with pytest.raises(NameTaken, match="the server makes itself"):
        files.add("default", Role.READ)
    files.revoke("ann")
    files.add("ann", Role.READ)
    assert facts(written(files)) == [DEFAULT, ("ann", Role.READ)]


@pytest.mark.parametrize(
    "name", ["", "a b", "../x", "-x", "nul", "x" * 128, "a,b", "ann.", "ä"]
)
def test_what_is_no_name_is_refused(files: TokenFiles, name: str) -> None:
    with pytest.raises(TokenError, match="cannot be used"):
        files.add(name, Role.RUN)
    assert not files.list.exists()


def test_there_is_an_end_to_tokens(files: TokenFiles) -> None:
    made = written_many(files, MOST_TOKENS)
    with pytest.raises(TokenError, match="256 tokens already"):
        files.add("one-more", Role.RUN)
    assert len(made) == len(written(files).tokens)
    assert files.list.stat().st_size < LONGEST_BYTES / 2


def written_many(files: TokenFiles, count: int) -> list[NamedToken]:
    """A full list of the longest names, as `add` would make it."""
    files.add("x", Role.RUN)
    [default, one] = written(files).tokens
    made = [default] + [
        NamedToken(f"{number:0127}", Role.ADMIN, hashed(str(number)), one.create_time)
        for number in range(count - 1)
    ]
    files._write(TokenList(tuple(made)))
    return made


def test_a_revoked_token_is_gone_and_one_that_is_not_there_is_said(files: TokenFiles) -> None:
    files.add("ann", Role.RUN)
    files.revoke("ann")
    assert facts(written(files)) == [DEFAULT]
    with pytest.raises(NoSuchToken, match="no token named ann"):
        files.revoke("ann")


def test_the_last_admin_is_not_revoked(files: TokenFiles) -> None:
    files.add("ann", Role.RUN)
    with pytest.raises(LastAdmin, match="add another first"):
        files.revoke("default")
    files.add("root", Role.ADMIN)
    files.revoke("default")
    with pytest.raises(LastAdmin):
        files.revoke("root")
    assert facts(written(files)) == [("ann", Role.RUN), ("root", Role.ADMIN)]


def test_a_revoked_first_token_does_not_come_back(files: TokenFiles) -> None:
    files.add("root", Role.ADMIN)
    files.revoke("default")
    assert not files.first.exists()
    tokens, _ = files.settled()
    assert facts(tokens) == [("root", Role.ADMIN)]
    assert not files.first.exists()


def test_a_first_token_that_is_deleted_is_replaced_at_the_next_start(
    files: TokenFiles,
) -> None:
    files.add("root", Role.ADMIN)
    before = token.read(files.first)
    files.first.unlink()
    tokens, _ = files.settled()
    assert facts(tokens) == [DEFAULT, ("root", Role.ADMIN)]
    assert tokens.tokens[0].sha256 == hashed(token.read(files.first)) != hashed(before)
    assert facts(written(files)) == facts(tokens)


def test_another_token_in_the_first_one_s_file_is_that_client_s(files: TokenFiles) -> None:
    secret = files.add("root", Role.ADMIN)
    files.first.write_text(secret)
    files.revoke("default")
    assert token.read(files.first) == secret
    assert facts(files.settled()[0]) == [("root", Role.ADMIN)]


def test_without_the_list_the_first_token_is_the_only_one(files: TokenFiles) -> None:
    files.add("ann", Role.ADMIN)
    secret = token.read(files.first)
    files.list.unlink()
    tokens, _ = files.settled()
    assert facts(tokens) == [DEFAULT]
    assert token.read(files.first) == secret


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "garbage": lambda _: os.urandom(4096),
    "nothing": lambda _: b"null",
    "another list": lambda _: b'{"type":"TokenList","tokens":[{}]}',
    "deep": lambda _: b"[" * 100_000,
    "twice": lambda content: content * 2,
    "role": lambda content: content.replace(b'"run"', b'"root"'),
    "name": lambda content: content.replace(b'"ann"', b'"a/b"'),
    "same name": lambda content: content.replace(b'"ann"', b'"default"'),
    "hash": lambda content: content.replace(b'"sha256":"', b'"sha256":"x'),
    "huge": lambda content: content + b" " * LONGEST_BYTES,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_list_is_refused_and_left_alone(files: TokenFiles, kind: str) -> None:
    files.add("ann", Role.RUN)
    damaged = DAMAGE[kind](files.list.read_bytes())
    files.list.write_bytes(damaged)
    for attempt in (
        files.settled,
        files.read,
        files.listed,
        lambda: files.add("bob", Role.RUN),
        lambda: files.revoke("ann"),
    ):
        with pytest.raises(TokenError, match="is damaged") as caught:
            attempt()
        assert str(files.list) in str(caught.value)
    assert files.list.read_bytes() == damaged


@pytest.mark.parametrize("kind", ODD)
def test_a_list_that_is_no_regular_file_is_refused(
    files: TokenFiles, tmp_path: Path, kind: str
) -> None:
    ODD[kind](files.list)
    with pytest.raises(TokenError, match="is no regular file"):
        files.settled()


def test_a_link_to_another_list_is_not_followed(files: TokenFiles, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = TokenFiles(tmp_path / "theirs" / "token")
    theirs.add("mallory", Role.ADMIN)
    files.list.symlink_to(theirs.list)
    with pytest.raises(TokenError, match="is no regular file"):
        files.settled()


@posix
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_list_that_others_can_open_is_refused(files: TokenFiles, mode: int) -> None:
    files.settled()
    files.list.chmod(mode)
    with pytest.raises(TokenError, match="is open to other users"):
        files.settled()


@posix
def test_the_files_are_the_owner_s_alone(files: TokenFiles) -> None:
    before = os.umask(0)
    try:
        files.add("ann", Role.RUN)
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in files.list.parent.iterdir()}
    assert modes == {"token": 0o600, "tokens.json": 0o600, "tokens.lock": 0o600}


def test_many_that_add_at_once_lose_nothing(files: TokenFiles) -> None:
    with ThreadPoolExecutor(16) as pool:
        secrets = list(pool.map(lambda n: files.add(f"n{n}", Role.RUN), range(64)))
    tokens = written(files)
    assert {hashed(secret) for secret in secrets} < {one.sha256 for one in tokens.tokens}
    assert len(tokens.tokens) == 65


def test_a_change_waits_for_another_and_not_for_ever(
    files: TokenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.settled()
    alone = lock.alone
    monkeypatch.setattr(lock, "alone", lambda path: alone(path, 0.05))
    with alone(files.list.with_name("tokens.lock")):
        with pytest.raises(TokenError, match="held by another process"):
            files.add("ann", Role.RUN)
        assert facts(files.settled()[0]) == [DEFAULT]  # a start has nothing to change
    files.add("ann", Role.RUN)


def test_a_full_disk_keeps_the_first_token_working(
    files: TokenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = token.load_or_create(files.first)

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.token_list.whole_file", full)
    tokens, trouble = files.settled()
    assert [one.sha256 for one in tokens.tokens] == [hashed(secret)]
    assert "No space left on device" in trouble
    with pytest.raises(TokenError, match="No space left on device"):
        files.add("ann", Role.RUN)


def test_listing_makes_nothing(files: TokenFiles) -> None:
    assert files.listed() == TokenList()
    assert list(files.list.parent.iterdir()) == []
    token.load_or_create(files.first)
    assert facts(files.listed()) == [DEFAULT]
    assert not files.list.exists()
