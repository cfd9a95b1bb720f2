"""Clients that ask and never take the answer hold nobody else up."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from domains.rooms import Room
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.untaken import UntakenInterceptor
from tests.callers import Word, called
from tests.server.echo import Echo, serving, told

_SETTINGS, _PING, _HEADERS, _DATA = 4, 6, 1, 0
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_WINDOW = struct.pack(">HI", 4, 0)  # of a stream, for what the server sends on it


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
    return head + struct.pack(">I", stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Silent:
    """A connection that asks, and gives the server no room to answer in."""

    def __init__(self, reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        self._reading, self._writing = reading, writing
        self._next = 1
        self.ended = 0
        """Calls of which it was told how they ended."""
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, echo: Echo) -> AsyncIterator[Silent]:
        """One to that server, for a while."""
        host, port = echo.target.split(":")
        reading, writing = await asyncio.open_connection(host, int(port))
        writing.write(_PREFACE + _frame(_SETTINGS, 0, 0, _NO_WINDOW))
        made = cls(reading, writing)
        try:
            yield made
        finally:
            made._hearing.cancel()
            writing.close()

    def ask(self, path: str) -> None:
        """Begin a unary call with an empty message."""
        fields = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": path.encode(),
            b":authority": b"localhost",
            b"te": b"trailers",
            b"content-type": b"application/grpc",
        }
        head = b"".join(_field(*each) for each in fields.items())
        self._writing.write(_frame(_HEADERS, _END_HEADERS, self._next, head))
        self._writing.write(_frame(_DATA, _END_STREAM, self._next, bytes(5)))
        self._next += 2

    async def _hear(self) -> None:
        while True:
            head = await self._reading.readexactly(9)
            payload = await self._reading.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags = head[3], head[4]
            if kind == _SETTINGS and not flags & _ACK:
                self._writing.write(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                self._writing.write(_frame(_PING, _ACK, 0, payload))
            elif kind == _HEADERS and flags & _END_STREAM:
                self.ended += 1


async def until_free(room: Room) -> None:
    async with asyncio.timeout(20):
        while room.taken:  # noqa: ASYNC110 - gRPC says so to the interceptor alone
            await asyncio.sleep(0.01)


async def test_answers_that_nobody_takes_keep_nobody_else_out() -> None:
    known, strangers = Room(100), Room(20, 5)
    around = [ErrorInterceptor(), Word(), UntakenInterceptor(known, strangers)]
    async with serving(around) as echo:
        async with Silent.to(echo) as silent:
            for _ in range(50):
                silent.ask("/test.Echo/Unary")
            async with asyncio.timeout(20):
                while silent.ended < 30:  # noqa: ASYNC110 - of those beyond its places
                    await asyncio.sleep(0.01)
            assert strangers.taken == 20  # it was alone
            assert await echo.call("Unary", metadata=called("ann")) == ["hi"]
            assert await echo.call("Unary") == ["hi"]  # another stranger
        await until_free(strangers)
        await until_free(known)


@pytest.mark.parametrize("method", ["Unary", "ServerStream", "ClientStream", "Duplex"])
async def test_one_call_too_many_is_refused_with_its_reason(method: str) -> None:
    known = Room(1)
    around = [ErrorInterceptor(), Word(), UntakenInterceptor(known, Room(1))]
    async with serving(around) as echo:
        known.take("ann")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await echo.call(method, metadata=called("ann"))
        what = told(refused.value)
        assert (what.code, what.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_STREAMS",
        )
        assert what.metadata == {"limit": "1"}
        known.give_back("ann")
        assert await echo.call(method, metadata=called("ann"))
        await until_free(known)
