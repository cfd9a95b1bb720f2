"""Who gets in: the right token in one authorization header, and health without any."""

from __future__ import annotations

import grpc
import pytest

from server.interceptors.auth import AuthInterceptor, TokenCheck
from server.interceptors.errors import ErrorInterceptor
from tests.server.echo import ARITIES, UNREADABLE, serving, told

TOKEN = "t0ken-" * 8
INTERCEPTORS = [ErrorInterceptor(), AuthInterceptor(TokenCheck(TOKEN))]
GOOD = ("authorization", f"Bearer {TOKEN}")


@pytest.mark.parametrize("arity", ARITIES)
async def test_right_token_passes(arity: str) -> None:
    async with serving(INTERCEPTORS) as echo:
        assert set(await echo.call(arity, metadata=[GOOD])) == {"hi"}


async def test_scheme_is_case_insensitive() -> None:
    async with serving(INTERCEPTORS) as echo:
        assert await echo.call("Unary", metadata=[("authorization", f"bearer {TOKEN}")])


@pytest.mark.parametrize("arity", ARITIES)
async def test_no_token_is_refused(arity: str) -> None:
    async with serving(INTERCEPTORS) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call(arity)
    what = told(caught.value)
    assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", "Bearer ")],
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        [GOOD, GOOD],
        [("authorization", f"Bearer {TOKEN}, Bearer {TOKEN}")],
    ],
    ids=["longer", "shorter", "empty", "no scheme", "other scheme", "two", "joined"],
)
async def test_wrong_header_is_refused_without_telling_the_token(
    arity: str, metadata: list[tuple[str, str]]
) -> None:
    async with serving(INTERCEPTORS) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call(arity, metadata=metadata)
    what = told(caught.value)
    assert (what.code, what.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    assert TOKEN[:-1] not in str(what)


@pytest.mark.parametrize("arity", ARITIES)
async def test_a_stranger_s_bytes_are_not_parsed(arity: str) -> None:
    async with serving(INTERCEPTORS) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call(arity, raw=UNREADABLE)
    assert told(caught.value).reason == "TOKEN_MISSING"


async def test_health_passes_without_a_token_and_reflection_does_not() -> None:
    async with serving(INTERCEPTORS, service="grpc.health.v1.Health") as echo:
        assert await echo.call("Unary") == ["hi"]
    async with serving(INTERCEPTORS, service="grpc.reflection.v1.ServerReflection") as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call("Duplex")
    assert told(caught.value).reason == "TOKEN_MISSING"


async def test_health_lookalike_is_not_open() -> None:
    async with serving(INTERCEPTORS, service="grpc.health.v1.HealthAndMore") as echo:
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.call("Unary")
