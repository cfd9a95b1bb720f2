"""Starting with whatever lies in the data folder: served, or refused in one sentence."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from domains.private_folders import FolderRefused
from server import data_folder, lock, portfile, serve
from server.config import Settings
from server.lock import FolderInUse
from tests.odd_files import ODD
from tests.server.apps import SteeredApp, running

root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="gives files to other users"
)
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX systems"),
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """All folders where they are by default."""
    return Settings(port=0, metrics_port=0, data_dir=tmp_path / "data", drain_seconds=1)


async def refusal(settings: Settings, log_lines: list[dict[str, Any]]) -> str:
    """The sentence that a server ends with that does not start, with code 2."""
    code = await asyncio.wait_for(serve.run(settings, compose=lambda _: SteeredApp()), 30)
    assert code == 2
    [line] = log_lines
    assert "exc_info" not in line
    sentence = str(line["event"])
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


async def written(settings: Settings) -> None:
    """Return when there is a port file."""
    async with asyncio.timeout(30):
        while portfile.read(settings.runtime_dir) is None:  # noqa: ASYNC110  # a file
            await asyncio.sleep(0.01)


def inode(path: Path) -> int:
    return path.lstat().st_ino


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_everything_is_private(settings: Settings) -> None:
    before = os.umask(0)
    try:
        async with running(settings, SteeredApp()):
            folders = [
                settings.data_dir,
                settings.runtime_dir,
                *data_folder.own_folders(settings),
            ]
            assert {mode(folder) for folder in folders} == {0o700}
            for name in ("server.lock", "runtime/token", "runtime/server.json"):
                assert mode(settings.data_dir / name) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("place", [".", "runtime", "artifacts", "spool"])
@pytest.mark.parametrize("wrong", [0o777, 0o755, 0o070])
async def test_a_folder_that_others_can_enter_is_closed(
    settings: Settings, place: str, wrong: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(settings, SteeredApp()):
        pass
    (settings.data_dir / place).chmod(wrong)
    async with running(settings, SteeredApp()):
        assert mode(settings.data_dir / place) == 0o700
    assert "only its owner may enter it now" in caplog.text


async def test_the_mode_of_a_folder_with_other_things_in_it_is_left(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be somebody's home."""
    settings.data_dir.mkdir()
    (settings.data_dir / "holiday.png").touch()
    settings.data_dir.chmod(0o755)
    async with running(settings, SteeredApp()):
        assert mode(settings.data_dir) == 0o755
        assert mode(settings.runtime_dir) == 0o700
    assert "chmod 700" in caplog.text
    assert (settings.data_dir / "holiday.png").exists()


async def test_a_data_folder_that_everybody_can_write_to_is_refused(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "holiday.png").touch()
    settings.data_dir.chmod(0o777)
    assert "chmod 700" in await refusal(settings, log_lines)


@root
@pytest.mark.parametrize("place", ["runtime", "artifacts", "spool"])
async def test_a_folder_of_another_user_is_refused(
    settings: Settings, place: str, log_lines: list[dict[str, Any]]
) -> None:
    (settings.data_dir / place).mkdir(parents=True)
    os.chown(settings.data_dir / place, 12345, -1)
    sentence = await refusal(settings, log_lines)
    assert f"{settings.data_dir / place} belongs to another user (id 12345)" in sentence
    assert "chown" in sentence


@root
async def test_a_data_folder_of_another_user_serves(settings: Settings) -> None:
    """As in a container whose volume belongs to a user outside."""
    settings.data_dir.mkdir()
    os.chown(settings.data_dir, 12345, -1)
    async with running(settings, SteeredApp()):
        assert mode(settings.runtime_dir) == 0o700


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00garbage")


NO_FOLDER = {name: make for name, make in ODD.items() if name != "folder"} | {"file": garbage}


@pytest.mark.parametrize("kind", NO_FOLDER)
@pytest.mark.parametrize("place", ["artifacts", "spool"])
async def test_what_is_no_folder_of_ours_is_set_aside(
    settings: Settings, place: str, kind: str
) -> None:
    settings.data_dir.mkdir()
    NO_FOLDER[kind](settings.data_dir / place)
    was = inode(settings.data_dir / place)
    async with running(settings, SteeredApp()):
        assert (settings.data_dir / place).is_dir()
        assert not (settings.data_dir / place).is_symlink()
        [kept] = settings.data_dir.glob(f"{place}.unusable-*")
        assert inode(kept) == was


@pytest.mark.parametrize("kind", NO_FOLDER)
@pytest.mark.parametrize("place", ["data_dir", "runtime_dir"])
async def test_what_is_no_folder_where_a_setting_names_one_is_refused(
    settings: Settings, place: str, kind: str, log_lines: list[dict[str, Any]]
) -> None:
    path: Path = getattr(settings, place)
    path.parent.mkdir(exist_ok=True)
    NO_FOLDER[kind](path)
    before = inode(path)
    sentence = await refusal(settings, log_lines)
    assert str(path) in sentence
    assert inode(path) == before


async def test_a_link_to_a_folder_elsewhere_is_followed_where_a_setting_names_it(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    settings.data_dir.symlink_to(tmp_path / "disk")
    async with running(settings, SteeredApp()):
        assert (tmp_path / "disk" / "runtime" / "server.json").exists()


@pytest.mark.parametrize("kind", ODD)
async def test_a_lock_that_is_no_file_is_refused_and_harms_nothing(
    settings: Settings, kind: str, log_lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings.data_dir.mkdir()
    ODD[kind](settings.data_dir / "server.lock")
    sentence = await refusal(settings, log_lines)
    assert "server.lock cannot be used: It is no regular file" in sentence
    assert not (settings.data_dir / "nowhere").exists()


@pytest.mark.parametrize("kind", ODD)
async def test_a_token_that_is_no_file_is_refused(
    settings: Settings, kind: str, log_lines: list[dict[str, Any]]
) -> None:
    settings.runtime_dir.mkdir(parents=True)
    ODD[kind](settings.token_path)
    sentence = await refusal(settings, log_lines)
    assert f"token file {settings.token_path}" in sentence
    assert "root:" not in sentence


@pytest.mark.parametrize("kind", ODD)
async def test_a_port_file_that_is_no_file_is_set_aside(settings: Settings, kind: str) -> None:
    settings.runtime_dir.mkdir(parents=True)
    ODD[kind](settings.runtime_dir / "server.json")
    assert portfile.read(settings.runtime_dir) is None
    async with running(settings, SteeredApp()) as server:
        location = portfile.read(settings.runtime_dir)
        assert location is not None
        assert location.address == server.ready.address
        assert len(list(settings.runtime_dir.glob("server.json.unusable-*"))) == 1


async def test_a_port_file_that_goes_while_running_is_written_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfile, "_AGAIN_SECONDS", 0.01)
    async with running(settings, SteeredApp()):
        (settings.runtime_dir / "server.json").unlink()
        await written(settings)


async def test_a_port_file_that_cannot_be_written_is_logged_once_and_calls_are_answered(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def full(*_: object) -> None:
        loop.call_soon_threadsafe(tried.release)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(portfile, "_AGAIN_SECONDS", 0.01)
    with monkeypatch.context() as disk:
        disk.setattr(portfile, "write", full)
        async with running(settings, SteeredApp()) as server:
            for _ in range(3):
                await asyncio.wait_for(tried.acquire(), 30)
            disk.undo()
            await written(settings)
    lines = [line for line in caplog.messages if "server.json cannot be written" in line]
    assert len(lines) == 1
    assert f"--server {server.ready.address}" in lines[0]


def under_a_full_disk(work: Callable[[], None]) -> None:
    """Every write of this process beyond a file's first byte fails meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_disk_that_is_full_at_the_first_start_is_said_truly(
    settings: Settings, log_lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)  # the lock's process id, as a start of it
    monkeypatch.setattr("server.token._create", full)
    sentence = await refusal(settings, log_lines)
    assert str(settings.token_path) in sentence
    assert "No space left on device" in sentence


def test_a_full_disk_costs_the_lock_its_name_and_not_its_hold(settings: Settings) -> None:
    def hold_twice() -> None:
        with data_folder.held(settings):
            with pytest.raises(FolderInUse) as caught, data_folder.held(settings):
                pass
            assert str(settings.data_dir) in str(caught.value)

    under_a_full_disk(hold_twice)


async def test_a_file_system_without_locks_is_told_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, log_lines: list[dict[str, Any]]
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", refuse)
    assert await refusal(settings, log_lines) == (
        f"{settings.data_dir} cannot be used: No locks available; its file system gives no"
        " locks, so choose another with --data-dir."
    )


def test_a_disk_that_takes_nothing_any_more_lets_the_lock_go(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as failing, data_folder.held(settings):
        failing.setattr(os, "ftruncate", refuse)
    with data_folder.held(settings):
        pass


async def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), []

    def wait(*arguments: object) -> None:
        asked.append(threading.current_thread())
        assert asked[-1] is not threading.main_thread()
        answers.wait()

    with monkeypatch.context() as hanging:
        async with running(settings, SteeredApp()) as server:
            hanging.setattr(os, "ftruncate", wait)
            hanging.setattr(portfile, "remove", wait)
            try:
                assert await server.stopped() == 0
            finally:
                answers.set()
    assert len(asked) == 2


def test_a_folder_that_cannot_be_made_names_it_and_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(FolderRefused) as caught, data_folder.held(settings):
        pass
    assert str(caught.value) == (
        f"{settings.data_dir} cannot be used: No space left on device; free some disk space."
    )


@pytest.mark.parametrize("name", ["data_dir", "runtime_dir"])
def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="is not UTF-8"):
        Settings(**{name: Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))})
