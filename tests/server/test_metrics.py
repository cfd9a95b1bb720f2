"""Prometheus figures, read back over HTTP as Prometheus reads them."""

from __future__ import annotations

import asyncio
import urllib.request

import grpc
import pytest

from domains.errors import NotFound
from server.interceptors.errors import ErrorInterceptor
from server.metrics import Metrics, MetricsEndpoint, MetricsInterceptor
from tests.server.echo import ARITIES, failing, serving


async def scrape(address: str) -> dict[str, float]:
    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
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
    endpoint = MetricsEndpoint(metrics, 0)
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
    endpoint = MetricsEndpoint(metrics, 0)
    figures = await scrape(endpoint.address)
    endpoint.close()
    assert not [name for name in figures if "Invented" in name]


async def test_port_is_on_loopback_and_free_again_after_close() -> None:
    first = MetricsEndpoint(Metrics(), 0)
    host, _, port = first.address.partition(":")
    assert host == "127.0.0.1"
    with pytest.raises(OSError, match="in use"):
        MetricsEndpoint(Metrics(), int(port))
    first.close()
    MetricsEndpoint(Metrics(), int(port)).close()
