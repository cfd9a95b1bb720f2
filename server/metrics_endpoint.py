"""The port that Prometheus asks: a few connections at a time, each for a few seconds.

It needs no token, so whoever reaches it can open connections. They cost one thread in all
and a bounded number of handles; when all are taken the oldest one makes place for the next,
since one that asks is answered at once and only idle ones grow old.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_HOST = "127.0.0.1"
_MOST_CONNECTIONS = 16
_LONGEST_SECONDS = 5.0
_LARGEST_REQUEST = 8 * 1024
_PATHS = ("/", "/metrics")


class MetricsEndpoint:
    """A small HTTP server on loopback, with an event loop and a thread of its own.

    Args:
        registry: The figures.
        port: 0 takes a free one.
        longest_seconds: How long a connection may be open.

    Raises:
        OSError: The port is taken.
        RuntimeError: The system gives no thread.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        port: int,
        *,
        longest_seconds: float = _LONGEST_SECONDS,
    ) -> None:
        self._registry = registry
        self._longest_seconds = longest_seconds
        self._open: dict[asyncio.Task[None], None] = {}  # oldest first
        self._listener = socket.create_server((_HOST, port), backlog=_MOST_CONNECTIONS)
        self.address = f"{_HOST}:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._listener.close()
            self._loop.close()
            raise

    def close(self) -> None:
        """Stop serving and let the port go."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._connected, sock=self._listener, limit=_LARGEST_REQUEST
        )
        await self._stopping.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= _MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        self._open[task] = None
        try:
            async with asyncio.timeout(self._longest_seconds):
                await self._answer(reader, writer)
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass  # It was slow, gone, or made place; nobody is there to be told.
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # It asked nothing that is a request.
        finally:
            self._open.pop(task, None)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        status, kind, body = "404 Not Found", "text/plain", b"The figures are at /metrics.\n"
        if method not in (b"GET", b"HEAD"):
            status, body = "405 Method Not Allowed", b"Only GET.\n"
        elif path in _PATHS:
            status, kind = "200 OK", CONTENT_TYPE_LATEST
            body = generate_latest(self._registry)
        lines = (
            f"HTTP/1.1 {status}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        if method != b"HEAD":
            writer.write(body)
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
