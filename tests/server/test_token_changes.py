"""A running server takes tokens up, ends the calls of revoked ones, and keeps what it knows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from deviceops.v1 import device_pb2
from domains.clients import Role
from server import identity, serve
from server.config import Settings
from server.token_list import TokenFiles
from tests.server.apps import Running, SteeredApp, running
from tests.server.echo import told

ASK = device_pb2.ListDevicesRequest()
SOON = 10.0  # seconds; it looks twice in one


def bearing(secret: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {secret}")]


def listing(server: Running, secret: str) -> Any:
    return server.devices.ListDevices(ASK, metadata=bearing(secret), timeout=30)


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
        assert loop.time() - began < SOON

        watch: Any = server.devices.WatchDevices(
            device_pb2.WatchDevicesRequest(), metadata=bearing(secret)
        )
        held = server.devices.GetDevice(device_pb2.GetDeviceRequest(), metadata=bearing(secret))
        other: Any = server.devices.WatchDevices(
            device_pb2.WatchDevicesRequest(), metadata=server.metadata
        )
        for stream in (watch, other):
            await stream.read()
            await stream.read()  # the second answer says that the call is held
        await asyncio.to_thread(files.revoke, "ann")
        began = loop.time()
        for end in (watch.read, lambda: held, lambda: listing(server, secret)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(end(), 30)
            assert told(caught.value).reason == "TOKEN_INVALID"
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert loop.time() - began < SOON
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
    settings.runtime_dir.mkdir(mode=0o700)
    files = TokenFiles(settings.token_path)
    files.add("ann", Role.RUN)
    files.list.write_bytes(b"{")
    assert await serve.run(settings, compose=lambda _: SteeredApp()) == 2
    assert "is damaged" in log_lines[-1]["event"]


async def test_a_stop_does_not_wait_for_the_next_look(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_LOOK_SECONDS", 10 * SOON)
    async with running(settings, SteeredApp()) as server:
        began = asyncio.get_running_loop().time()
        assert await server.stopped() == 0
        assert asyncio.get_running_loop().time() - began < SOON
        names = {task.get_name() for task in asyncio.all_tasks()}
    assert "tokens" not in names


def test_two_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    files = TokenFiles(tmp_path / "token")
    program = (
        "import sys; from pathlib import Path; from server.token_list import TokenFiles;"
        "from domains.clients import Role; files = TokenFiles(Path(sys.argv[1]));"
        "[files.add(f'{sys.argv[2]}{n}', Role.RUN) for n in range(20)]"
    )
    command = [sys.executable, "-c", program, str(files.first)]
    processes = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [process.wait(60) for process in processes] == [0, 0]
    written = files.read()
    assert written is not None
    assert len(written.tokens) == 41
