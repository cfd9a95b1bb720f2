"""`deviceops token`: tokens are made, listed and revoked without a server."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from server import token
from server.config import Settings
from server.token_list import TokenFiles, hashed
from tests.server.cli.conftest import Run


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_add_prints_the_token_alone_and_once(deviceops: Run, own_settings: Path) -> None:
    done = deviceops("token", "add", "ann")
    [secret] = done.stdout.split()
    assert "ann, role run" in done.stderr
    assert secret not in done.stderr

    listed = deviceops("token", "list").stdout
    assert [row[:2] for row in rows(listed)] == [
        ["name", "role"],
        ["default", "admin"],
        ["ann", "run"],
    ]
    first = deviceops("token").stdout.strip()
    assert first != secret
    for hidden in (secret, first, hashed(secret), hashed(first)):
        assert hidden not in listed + deviceops("token", "list", "--json").stdout
    found = TokenFiles(own_settings / "token").listed().named("ann")
    assert found is not None
    assert found.sha256 == hashed(secret)


@pytest.mark.parametrize("role", ["read", "run", "admin"])
def test_facts_for_programs(deviceops: Run, role: str) -> None:
    made = json.loads(deviceops("token", "add", "ann", "--role", role, "--json").stdout)
    assert (made["name"], made["role"], len(made["token"])) == ("ann", role, 43)
    listed = json.loads(deviceops("token", "list", "--json").stdout)
    [_, ann] = listed["tokens"]
    assert (ann["name"], ann["role"]) == ("ann", role)
    assert ann["create_time"]


def test_revoke(deviceops: Run) -> None:
    deviceops("token", "add", "ann")
    assert deviceops("token", "revoke", "ann").exit_code == 0
    assert len(rows(deviceops("token", "list").stdout)) == 2
    gone = deviceops("token", "revoke", "ann")
    assert (gone.exit_code, "no token named ann" in gone.stderr) == (4, True)


def test_what_is_refused_says_what_to_do(deviceops: Run) -> None:
    deviceops("token", "add", "ann")
    for arguments, code, words in (
        (("add", "ann"), 2, "revoke it first"),
        (("add", "a b"), 2, "letters, digits"),
        (("add", "default"), 2, "the server makes itself"),
        (("add", "bob", "--role", "king"), 2, "'read', 'run', 'admin'"),
        (("revoke", "default"), 1, "deviceops token add NAME --role admin"),
    ):
        done = deviceops("token", *arguments)
        assert (done.exit_code, words in done.stderr) == (code, True), done.stderr


def test_without_the_first_token_it_says_where_it_is_made(deviceops: Run) -> None:
    deviceops("token", "add", "root", "--role", "admin")
    deviceops("token", "revoke", "default")
    done = deviceops("token")
    assert done.exit_code == 4
    assert "unless it was revoked" in done.stderr


def test_on_a_fresh_machine_the_folders_are_the_owner_s_alone(
    deviceops: Run, own_settings: Path
) -> None:
    own_settings.rmdir()
    assert deviceops("token", "add", "ann").exit_code == 0
    for folder in (own_settings, own_settings.parent / "data"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    token.read(own_settings / "token")


def test_a_folder_that_others_can_write_to_is_refused(
    deviceops: Run, own_settings: Path, tmp_path: Path
) -> None:
    (own_settings / "something").touch()
    own_settings.chmod(0o777)
    done = deviceops("token", "add", "ann")
    assert done.exit_code == 2
    assert "Other users can write to the folder" in done.stderr
    assert not (own_settings / "tokens.json").exists()


def test_a_damaged_list_is_named(deviceops: Run, own_settings: Path) -> None:
    deviceops("token", "add", "ann")
    (own_settings / "tokens.json").write_text("{")
    for arguments in (("add", "bob"), ("list",), ("revoke", "ann")):
        done = deviceops("token", *arguments)
        assert done.exit_code == 2
        assert str(own_settings / "tokens.json") in done.stderr
        assert "is damaged" in done.stderr


def test_a_setting_that_is_wrong_is_said(
    deviceops: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVICEOPS_PORT", "many")
    assert deviceops("token", "list").exit_code == 2


def test_the_settings_say_where_the_tokens_are(settings: Settings) -> None:
    assert TokenFiles(settings.token_path).list == settings.runtime_dir / "tokens.json"
