"""Tokens come and go while the server runs; what cannot be read changes nothing, loudly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import device_pb2
from domains.clients import Caller, Role
from domains.errors import Reason, Unauthenticated
from server import token
from server.config import Settings
from server.identity import EVERYBODY, Identities
from server.token_list import TokenFiles
from tests.odd_files import ODD
from tests.server.apps import Running, SteeredApp, running
from tests.server.echo import told

ASK = device_pb2.ListDevicesRequest()


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


# A server that runs.


def listing(server: Running, secret: str) -> Any:
    return server.devices.ListDevices(ASK, metadata=bearing(secret), timeout=10)


async def until_accepted(server: Running, secret: str) -> None:
    for _ in range(500):
        try:
            await listing(server, secret)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.02)
        else:
            return
    raise AssertionError("the server did not take the token up")


async def test_a_running_server_takes_tokens_up_and_ends_the_calls_of_revoked_ones(
    settings: Settings,
) -> None:
    files = TokenFiles(settings.token_path)
    loop = asyncio.get_running_loop()
    async with running(settings, SteeredApp()) as server:
        secret = await asyncio.to_thread(files.add, "ann", Role.RUN)
        began = loop.time()
        await until_accepted(server, secret)
        assert loop.time() - began < 2

        watch: Any = server.devices.WatchDevices(
            device_pb2.WatchDevicesRequest(), metadata=bearing(secret)
        )
        held = server.devices.GetDevice(device_pb2.GetDeviceRequest(), metadata=bearing(secret))
        other: Any = server.devices.WatchDevices(
            device_pb2.WatchDevicesRequest(), metadata=server.metadata
        )
        await watch.read()
        await other.read()
        await asyncio.to_thread(files.revoke, "ann")
        began = loop.time()
        for end in (watch.read, lambda: held, lambda: listing(server, secret)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(end(), 10)
            assert told(caught.value).reason == "TOKEN_INVALID"
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert loop.time() - began < 3
        assert not other.done()
        assert (await server.devices.ListDevices(ASK, metadata=server.metadata)).ByteSize()
        assert await server.stopped() == 0


async def test_a_list_deleted_under_a_server_opens_nothing_and_locks_nobody_out(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    files = TokenFiles(settings.token_path)
    async with running(settings, SteeredApp()) as server:
        secret = await asyncio.to_thread(files.add, "ann", Role.RUN)
        await until_accepted(server, secret)
        files.list.unlink()
        for _ in range(500):
            if any(line["event"] == "token_list_not_taken_up" for line in log_lines):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("nobody said that the list is gone")
        await listing(server, secret)
        await server.devices.ListDevices(ASK, metadata=server.metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.devices.ListDevices(ASK)
        assert told(caught.value).reason == "TOKEN_MISSING"
    async with running(settings, SteeredApp()) as server:  # the first token is in its file
        await server.devices.ListDevices(ASK, metadata=server.metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listing(server, secret)
        assert told(caught.value).reason == "TOKEN_INVALID"


async def test_a_server_does_not_start_with_a_damaged_list(
    settings: Settings, log_lines: list[dict[str, Any]]
) -> None:
    from server import serve

    settings.runtime_dir.mkdir(mode=0o700)
    files = TokenFiles(settings.token_path)
    files.add("ann", Role.RUN)
    files.list.write_bytes(b"{")
    assert await serve.run(settings, compose=lambda _: SteeredApp()) == 2
    assert "is damaged" in log_lines[-1]["event"]


async def test_a_stop_does_not_wait_for_the_next_look(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        began = asyncio.get_running_loop().time()
        assert await server.stopped() == 0
        assert asyncio.get_running_loop().time() - began < 2
        names = {task.get_name() for task in asyncio.all_tasks()}
    assert "tokens" not in names
