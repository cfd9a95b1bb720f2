"""A call says who its client is: a name, or nothing, for every method alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from server.app import SERVICE_NAMES
from server.config import Settings
from server.interceptors.call_classes import CALL_CLASSES
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.metadata import MetadataInterceptor
from tests.server.apps import SteeredApp, running
from tests.server.echo import ARITIES, UNREADABLE, Echo, serving, told

KEY = "deviceops-client"
BAD = ["a b", "../x", "-x", "nul", "x" * 128, "a,b", "ann."]


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with serving([ErrorInterceptor(), MetadataInterceptor()]) as made:
        yield made


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize(
    "metadata", [[], [(KEY, "my-app_1.x")], [(KEY, "")], [("other", "a b")]]
)
async def test_a_decent_name_or_none_passes(
    echo: Echo, arity: str, metadata: list[tuple[str, str]]
) -> None:
    assert "hi" in await echo.call(arity, metadata=metadata)


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize("metadata", [[(KEY, bad)] for bad in BAD] + [[(KEY, "a"), (KEY, "b")]])
async def test_a_bad_name_is_refused_before_the_request_is_read(
    echo: Echo, arity: str, metadata: list[tuple[str, str]]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await echo.call(arity, UNREADABLE, metadata=metadata)

    what = told(caught.value)
    assert (what.code, what.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "METADATA_INVALID",
    )
    assert what.violations == [(KEY, "METADATA_INVALID")]


async def test_every_rpc_of_the_contract_refuses_it_alike(settings: Settings) -> None:
    async with running(settings, SteeredApp()) as server:
        metadata = (*server.metadata, (KEY, "a b"))
        reasons = await asyncio.gather(
            *(_reason(server.channel, method, metadata) for method in CALL_CLASSES)
        )
        without = await _reason(server.channel, next(iter(CALL_CLASSES)), ((KEY, "a b"),))

    assert set(zip(reasons, (m.split("/")[1] for m in CALL_CLASSES), strict=True)) == {
        ("METADATA_INVALID", service) for service in SERVICE_NAMES
    }
    assert without == "TOKEN_MISSING"


async def _reason(
    channel: grpc.aio.Channel, method: str, metadata: tuple[tuple[str, str], ...]
) -> str:
    """Why a call is refused; a bidirectional one will do for every arity."""
    start: Any = channel.stream_stream(method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in start(iter([b""]), metadata=metadata):
            pass
    return told(caught.value).reason
