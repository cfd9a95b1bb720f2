"""The server and its workers speak to those who called, and to nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import psutil

from tests.attack.test_machine_faults import READY, until_state
from tests.running import RunningServer, small_request

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def strangers(process_id: int, own_port: int) -> list[str]:
    """Sockets of a process and its children that belong to no caller of `own_port`."""
    front = psutil.Process(process_id)
    found = []
    for process in (front, *front.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # probes come and go
            for one in process.net_connections("inet"):
                called = one.status == psutil.CONN_LISTEN or one.laddr.port == own_port
                stream = one.type == socket.SOCK_STREAM
                if not (stream and called and one.laddr.ip in LOOPBACK):
                    found.append(f"{process.pid}: {one}")
    return found


def port_of(server: RunningServer) -> int:
    """The port that clients call."""
    return int(server.address.rpartition(":")[2])


async def test_a_generation_opens_no_connection(server: RunningServer) -> None:
    looks: list[list[str]] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            found = await asyncio.to_thread(strangers, server.process.pid, port_of(server))
            looks.append(found)
            await asyncio.sleep(0.02)

    async with server.client() as client, asyncio.TaskGroup() as group:
        group.create_task(look())
        await until_state(client, READY)
        before = len(looks)
        while len(looks) <= before + 5:
            events, _ = await client.draw(small_request(steps=6))
        done.set()
    assert events[-1].HasField("completed")
    assert [one for one in looks if one] == []


async def test_a_connection_to_another_port_would_be_seen(server: RunningServer) -> None:
    async with server.client() as client:
        await client.draw(small_request(steps=1))
        assert strangers(server.process.pid, port_of(server)) == []
        assert strangers(server.process.pid, port_of(server) + 1) != []
