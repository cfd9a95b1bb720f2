"""Who calls, by a list that changes; what cannot be read changes nothing, loudly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domains.clients import Caller, Role
from domains.errors import Reason, Unauthenticated
from server import token
from server.identity import EVERYBODY, Identities
from server.token_list import TokenFiles
from tests.odd_files import ODD


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    return TokenFiles(tmp_path / "token")


def bearing(secret: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {secret}")]


def refusal_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(Unauthenticated) as caught:
        call()
    return caught.value.reason


async def test_a_client_is_the_name_and_the_role_of_its_token(files: TokenFiles) -> None:
    secret = files.add("ann", Role.READ)
    known = Identities(files)
    assert known.identify(bearing(secret), None).caller == Caller("ann", Role.READ)
    first = bearing(token.read(files.first))
    assert known.identify(first, None).caller == Caller("default", Role.ADMIN)
    assert refusal_of(lambda: known.identify([], None)) is Reason.TOKEN_MISSING
    assert refusal_of(lambda: known.identify(None, "ann")) is Reason.TOKEN_MISSING


async def test_tokens_come_and_go_between_two_looks(
    files: TokenFiles, log_lines: list[dict[str, Any]]
) -> None:
    known, told_of = Identities(files), []
    known.on_change(lambda: told_of.append(1))
    await known.look()
    assert told_of == []

    secret = files.add("ann", Role.RUN)
    assert refusal_of(lambda: known.identify(bearing(secret), None)) is Reason.TOKEN_INVALID
    await known.look()
    identity = known.identify(bearing(secret), None)
    assert known.holds(identity)

    files.revoke("ann")
    await known.look()
    assert not known.holds(identity)
    assert refusal_of(lambda: known.identify(bearing(secret), None)) is Reason.TOKEN_INVALID
    assert len(told_of) == 2
    changes = [(line["added"], line["gone"]) for line in log_lines]
    assert changes == [(["ann"], []), ([], ["ann"])]
    assert identity.sha256
    assert identity.sha256 not in repr(identity)


def odd(kind: str) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        ODD[kind](path)

    return replace


HARM: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "huge": lambda path: os.truncate(path, 1 << 40),
    "garbage": lambda path: path.write_bytes(os.urandom(100)) and None,
    "open to others": lambda path: path.chmod(0o666),
    "folder gone": lambda path: path.parent.rename(path.parent.with_name("elsewhere")) and None,
    **{kind: odd(kind) for kind in ODD},
}


@pytest.mark.parametrize("kind", HARM)
async def test_a_list_that_is_harmed_changes_nothing_and_is_said_once(
    tmp_path: Path, kind: str, log_lines: list[dict[str, Any]]
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    files = TokenFiles(tmp_path / "runtime" / "token")
    secret = files.add("ann", Role.ADMIN)
    known, ended = Identities(files), []
    known.on_change(lambda: ended.append(1))
    identity = known.identify(bearing(secret), None)
    content = files.list.read_bytes()

    HARM[kind](files.list)
    for _ in range(3):
        await known.look()
    assert known.identify(bearing(secret), None) == identity
    assert known.holds(identity)
    assert refusal_of(lambda: known.identify([], None)) is Reason.TOKEN_MISSING
    [line] = log_lines
    assert (line["level"], line["event"]) == ("error", "token_list_not_taken_up")
    assert str(files.list) in line["why"]
    assert line["kept"] == 2

    files.list.parent.mkdir(mode=0o700, exist_ok=True)
    files.list.with_name("copy").write_bytes(content)
    files.list.with_name("copy").chmod(0o600)
    if files.list.is_dir() and not files.list.is_symlink():
        files.list.rename(files.list.with_name("aside"))
    files.list.with_name("copy").replace(files.list)
    await known.look()
    assert log_lines[1]["event"] == "token_list_readable_again"
    assert (len(log_lines), ended) == (2, [])


async def test_without_an_admin_a_start_says_so(
    files: TokenFiles, log_lines: list[dict[str, Any]]
) -> None:
    files.add("ann", Role.RUN)
    files.list.write_text(files.list.read_text().replace('"admin"', '"read"'))
    Identities(files)
    assert [line["event"] for line in log_lines] == ["no_admin_token"]


async def test_a_certificate_names_its_client_and_its_role_is_that_of_the_name_s_token(
    files: TokenFiles,
) -> None:
    files.add("ann", Role.ADMIN)
    secret = files.add("bob", Role.READ)
    known = Identities(files, certificates=True)
    assert known.identify([], "ann").caller == Caller("ann", Role.ADMIN)
    assert known.identify([], "carol").caller == Caller("carol", Role.RUN)
    # What comes with the call counts first, and is never passed over.
    assert known.identify(bearing(secret), "ann").caller == Caller("bob", Role.READ)
    assert refusal_of(lambda: known.identify(bearing("x"), "ann")) is Reason.TOKEN_INVALID
    assert refusal_of(lambda: known.identify([], None)) is Reason.TOKEN_MISSING


@pytest.mark.parametrize("name", ["", "default", "Ann Smith", "a\0b", "x" * 128, "\ufffd"])
async def test_a_certificate_without_a_usable_name_is_refused(
    files: TokenFiles, name: str
) -> None:
    known = Identities(files, certificates=True)
    assert refusal_of(lambda: known.identify([], name)) is Reason.TOKEN_INVALID


async def test_a_certificate_s_calls_end_when_its_name_loses_its_role(
    files: TokenFiles,
) -> None:
    known = Identities(files, certificates=True)
    before = known.identify([], "ann")
    files.add("ann", Role.ADMIN)
    await known.look()
    assert known.holds(before)  # more may be done now, and nothing less
    raised = known.identify([], "ann")
    files.revoke("ann")
    await known.look()
    assert known.holds(before)
    assert not known.holds(raised)


async def test_without_auth_nothing_is_read_and_everybody_is_one_client() -> None:
    known = Identities(None, certificates=True)
    assert known.loops == ()
    assert known.identify([("authorization", "Bearer x")], "ann") is EVERYBODY
    assert known.holds(EVERYBODY)
