"""How requests are read: after admission, only so long, counted before parsed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from deviceops.v1 import inference_pb2, model_pb2
from domains.rooms import Room
from server.interceptors.admission import Admission, AdmissionInterceptor
from server.interceptors.call_classes import CallClass
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.requests import RequestInterceptor
from tests.server.echo import ARITIES, UNREADABLE, Echo, serving, told

INTERCEPTORS = [ErrorInterceptor(), RequestInterceptor()]


async def refused(echo: Echo, method: str, raw: bytes | None = None) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await echo.call(method, raw=raw)
    return told(caught.value)


@pytest.mark.parametrize("arity", ARITIES)
async def test_a_good_message_arrives(arity: str) -> None:
    async with serving(INTERCEPTORS) as echo:
        assert set(await echo.call(arity)) == {"hi"}


@pytest.mark.parametrize("arity", ARITIES)
async def test_bytes_that_are_no_message_are_a_malformed_message(arity: str) -> None:
    async with serving(INTERCEPTORS) as echo:
        what = await refused(echo, arity, UNREADABLE)
    assert (what.code, what.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@pytest.mark.parametrize("arity", ARITIES)
async def test_message_over_the_limit_is_refused_with_the_limit(arity: str) -> None:
    around = [ErrorInterceptor(), RequestInterceptor(max_message_bytes=100)]
    async with serving(around) as echo:
        raw = StringValue(value="x" * 98).SerializeToString()
        assert len(raw) == 100
        assert set(await echo.call(arity, raw=raw)) == {"x" * 98}
        what = await refused(echo, arity, raw + b"x")
    assert (what.code, what.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "MESSAGE_TOO_LARGE",
    )
    assert what.metadata == {"max_bytes": "100", "size_bytes": "101"}


@pytest.mark.parametrize("arity", ARITIES)
async def test_a_call_without_its_message_ends_after_a_while(arity: str) -> None:
    """One message or many: a call that is opened and then left alone holds nothing."""
    admission = Admission({CallClass.WORK: Room(1)})
    around = [
        ErrorInterceptor(),
        AdmissionInterceptor(admission),
        RequestInterceptor(idle_seconds=0.2),
    ]
    async with serving(around) as echo:
        silent = echo.channel.stream_stream(f"/test.Echo/{arity}")()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(anext(aiter(silent)), 30)
        what = told(ended.value)
        assert (what.code, what.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_EXPIRED",
        )
        assert what.metadata == {"idle_seconds": "0.2"}
        assert set(await echo.call(arity)) == {"hi"}


@pytest.mark.parametrize("arity", ["Unary", "ServerStream"])
async def test_a_call_that_ends_before_its_message_is_told_so(arity: str) -> None:
    async with serving(INTERCEPTORS) as echo:
        empty = echo.channel.stream_stream(f"/test.Echo/{arity}")(iter(()))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in empty:
                pass
    assert told(ended.value).reason == "MALFORMED_MESSAGE"


async def test_a_client_that_goes_on_sending_may_take_its_time() -> None:
    around = [ErrorInterceptor(), RequestInterceptor(idle_seconds=2)]

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.6)
            yield StringValue(value="hi").SerializeToString()

    async with serving(around) as echo:
        call = echo.channel.stream_unary(
            "/test.Echo/ClientStream", response_deserializer=StringValue.FromString
        )
        assert (await call(slowly())).value == "hi,hi,hi,hi"


async def test_a_call_has_its_place_before_its_message_is_asked_for() -> None:
    class Asked(Admission):
        begun = asyncio.Event()

        def begin(self, kind: CallClass, client: str = "") -> asyncio.Task[Any]:
            self.begun.set()
            return super().begin(kind, client)

    admission = Asked({CallClass.WORK: Room(1)})
    around = [ErrorInterceptor(), AdmissionInterceptor(admission), RequestInterceptor()]
    async with serving(around) as echo:
        silent = echo.channel.stream_stream("/test.Echo/Unary")()
        await silent.wait_for_connection()
        await asyncio.wait_for(admission.begun.wait(), 30)
        assert (await refused(echo, "Unary")).reason == "TOO_MANY_STREAMS"
        silent.cancel()
        await asyncio.wait_for(admission.idle(), 30)
        assert await echo.call("Unary") == ["hi"]


async def _reached(request: Any, context: Any) -> StringValue:
    return StringValue(value="reached")


@contextlib.asynccontextmanager
async def taking(method: str, kind: type[Message]) -> AsyncIterator[Any]:
    """A method of that name which takes such messages, to be called with bytes."""
    handler = grpc.unary_unary_rpc_method_handler(
        _reached,
        request_deserializer=kind.FromString,
        response_serializer=StringValue.SerializeToString,
    )
    server = grpc.aio.server(interceptors=INTERCEPTORS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Takes", {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary(f"/test.Takes/{method}")
    await server.stop(0)


async def test_too_long_a_list_is_named() -> None:
    flood = b"\x22\x01a" * 800_000
    async with taking("ListModels", model_pb2.ListModelsRequest) as call:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(flood)
    assert told(caught.value).violations == [("tags", "TOO_MANY_ELEMENTS")]


async def test_who_answers_with_broken_rules_gets_to_see_lists_a_little_too_long() -> None:
    request = inference_pb2.GenerateRequest()
    request.settings.seeds.extend(range(10))
    async with taking("Generate", inference_pb2.GenerateRequest) as call:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request.SerializeToString())
    judged = inference_pb2.ValidateGenerationRequest(request=request)
    async with taking("ValidateGeneration", inference_pb2.ValidateGenerationRequest) as call:
        assert await call(judged.SerializeToString())
        judged.request.settings.seeds.extend(range(10))
        with pytest.raises(grpc.aio.AioRpcError) as much:
            await call(judged.SerializeToString())
    assert told(caught.value).violations == [("settings.seeds", "TOO_MANY_ELEMENTS")]
    assert told(much.value).violations == [("request.settings.seeds", "TOO_MANY_ELEMENTS")]
