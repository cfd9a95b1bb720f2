"""Prometheus figures, read back over HTTP as Prometheus reads them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import urllib.request

import grpc
import psutil
import pytest

from domains.errors import NotFound
from server.interceptors.errors import ErrorInterceptor
from server.metrics import Metrics, MetricsInterceptor
from server.metrics_endpoint import MetricsEndpoint
from tests.server.echo import ARITIES, failing, serving


async def scrape(address: str) -> dict[str, float]:
    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(read)
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("arity", ARITIES)
async def test_calls_are_counted_by_method_and_status(arity: str) -> None:
    metrics = Metrics()
    interceptors = [MetricsInterceptor(metrics), ErrorInterceptor()]
    async with serving(interceptors) as echo:
        await echo.call(arity)
        await echo.call(arity)
    async with serving(interceptors, failing(NotFound("Gone."))) as echo:
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.call(arity)
    endpoint = MetricsEndpoint(metrics.registry, 0)
    figures = await scrape(endpoint.address)
    endpoint.close()
    method = f'method="/test.Echo/{arity}"'
    assert figures[f'deviceops_calls_total{{code="OK",{method}}}'] == 2
    assert figures[f'deviceops_calls_total{{code="NOT_FOUND",{method}}}'] == 1
    assert figures[f"deviceops_call_duration_seconds_count{{{method}}}"] == 3
    assert 0 < figures[f"deviceops_call_duration_seconds_sum{{{method}}}"] < 60
    assert figures[f"deviceops_open_calls{{{method}}}"] == 0


async def test_invented_method_names_make_no_labels() -> None:
    metrics = Metrics()
    async with serving([MetricsInterceptor(metrics)]) as echo:
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.call("Invented")
    endpoint = MetricsEndpoint(metrics.registry, 0)
    figures = await scrape(endpoint.address)
    endpoint.close()
    assert not [name for name in figures if "Invented" in name]


async def test_port_is_on_loopback_and_free_again_after_close() -> None:
    first = MetricsEndpoint(Metrics().registry, 0)
    host, _, port = first.address.partition(":")
    assert host == "127.0.0.1"
    with pytest.raises(OSError, match="in use"):
        MetricsEndpoint(Metrics().registry, int(port))
    first.close()
    MetricsEndpoint(Metrics().registry, int(port)).close()


def connect(address: str, data: bytes = b"") -> socket.socket:
    host, _, port = address.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(data)
    return connection


def everything(connection: socket.socket) -> bytes:
    with connection:
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


@pytest.mark.skipif(sys.platform == "win32", reason="counts file descriptors")
async def test_a_crowd_that_asks_nothing_costs_no_threads_and_keeps_nobody_out() -> None:
    endpoint = MetricsEndpoint(Metrics().registry, 0)
    process = psutil.Process()
    threads, handles = process.num_threads(), process.num_fds()
    with contextlib.ExitStack() as crowd:
        for _ in range(300):
            crowd.enter_context(connect(endpoint.address))
        await scrape(endpoint.address)
        assert process.num_threads() <= threads + 1  # the one that scrapes
        # What came at once is let go at once, which a busy machine does a little later.
        async with asyncio.timeout(60):
            while process.num_fds() - handles - 300 > 20:  # noqa: ASYNC110 - the system tells nobody
                await asyncio.sleep(0.01)
    endpoint.close()


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HT", b"G"], ids=["none", "part", "one"])
async def test_a_connection_that_does_not_ask_is_closed(sent: bytes) -> None:
    endpoint = MetricsEndpoint(Metrics().registry, 0, longest_seconds=0.2)
    connection = connect(endpoint.address, sent)
    assert await asyncio.to_thread(everything, connection) == b""
    endpoint.close()


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /metrics?name[]=x HTTP/1.1\r\n\r\n", b"200"),
        (b"HEAD / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /secret HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"\xff\xfe\r\n\r\n", b"405"),
        (b"x" * 100_000, b""),
    ],
)
async def test_what_is_asked_gets_one_answer(asked: bytes, status: bytes) -> None:
    endpoint = MetricsEndpoint(Metrics().registry, 0, longest_seconds=2)
    answer = await asyncio.to_thread(everything, connect(endpoint.address, asked))
    assert answer[9:12] == status
    assert (b"deviceops_calls" in answer) is (status == b"200" and asked.startswith(b"GET"))
    endpoint.close()


def test_without_a_thread_the_port_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            MetricsEndpoint(Metrics().registry, port)
    MetricsEndpoint(Metrics().registry, port).close()
