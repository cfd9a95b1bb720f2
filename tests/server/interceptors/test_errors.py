"""Every way a call can fail reaches the client as a documented status, and nothing leaks."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from deviceops.v1 import device_pb2, device_pb2_grpc
from domains.errors import (
    FieldViolation,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from server.interceptors.errors import ErrorInterceptor
from tests.server.echo import ARITIES, failing, serving, told

SECRET = "secret path to a token"


@pytest.mark.parametrize("arity", ARITIES)
async def test_lets_a_good_call_through(arity: str) -> None:
    async with serving([ErrorInterceptor()]) as echo:
        assert set(await echo.call(arity)) == {"hi"}


@pytest.mark.parametrize("arity", ARITIES)
async def test_domain_error_becomes_its_code_with_details(arity: str) -> None:
    error = NotFound(
        "No such model.", reason=Reason.MODEL_NOT_FOUND, metadata={"model_id": "x"}
    )
    async with serving([ErrorInterceptor()], failing(error)) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call(arity)
    what = told(caught.value)
    assert what.code is grpc.StatusCode.NOT_FOUND
    assert what.message == "No such model."
    assert (what.reason, what.domain) == ("MODEL_NOT_FOUND", "deviceops")
    assert what.metadata == {"model_id": "x"}
    assert what.retry_seconds is None


async def test_violations_and_retry_delay_reach_the_client() -> None:
    violation = FieldViolation("settings.width", Reason.DIMENSIONS_INVALID, "Too small.")
    refused = InvalidArgument("Bad size.", violations=[violation])
    full = ResourceExhausted("Full.", reason=Reason.QUEUE_FULL, retry_after=1.25)
    async with serving([ErrorInterceptor()], {"Unary": failing(refused)["Unary"]}) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call("Unary")
    assert told(caught.value).violations == [("settings.width", "DIMENSIONS_INVALID")]
    async with serving([ErrorInterceptor()], {"Unary": failing(full)["Unary"]}) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call("Unary")
    assert told(caught.value).retry_seconds == 1.25
    assert dict(caught.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "1250"


# As Grpc.Net.Client and others are configured, with a back-off that no test would wait for.
RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "300s",
                "maxBackoff": "300s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


async def test_a_clients_own_retry_policy_waits_as_long_whole_told() -> None:
    calls: list[float] = []

    async def recovering(request: Any, context: Any) -> Any:
        calls.append(asyncio.get_running_loop().time())
        if len(calls) == 1:
            raise Unavailable("Gone.", reason=Reason.WORKER_LOST, retry_after=0.25)
        return request

    options = [("grpc.enable_retries", 1), ("grpc.service_config", json.dumps(RETRIES))]
    async with serving([ErrorInterceptor()], {"Unary": recovering}, options=options) as echo:
        assert await asyncio.wait_for(echo.call("Unary"), 30) == ["hi"]
    first, second = calls
    assert 0.25 <= second - first < 10


async def test_a_failure_without_a_time_to_wait_tells_none() -> None:
    gone = Unavailable("Gone.", reason=Reason.DEVICE_LOST)
    async with serving([ErrorInterceptor()], failing(gone)) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call("Unary")
    trailers = dict(caught.value.trailing_metadata() or ())
    assert "grpc-retry-pushback-ms" not in trailers
    assert told(caught.value).retry_seconds is None


@pytest.mark.parametrize("arity", ARITIES)
async def test_unknown_exception_leaks_nothing_and_is_logged_under_its_incident(
    arity: str, log_lines: list[dict[str, Any]]
) -> None:
    async with serving([ErrorInterceptor()], failing(ValueError(SECRET))) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call(arity)
    what = told(caught.value)
    assert (what.code, what.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert SECRET not in f"{caught.value.debug_error_string()} {what}"
    incident = what.metadata["incident_id"]
    assert incident in what.message
    [line] = [line for line in log_lines if line.get("incident_id") == incident]
    assert isinstance(line["exc_info"], ValueError)
    assert str(line["exc_info"]) == SECRET


async def test_stream_delivers_what_came_before_the_error() -> None:
    async with serving([ErrorInterceptor()], failing(NotFound("Gone."))) as echo:
        call = echo.start("ServerStream")
        assert (await call.read()).value == "before"
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()


async def test_response_that_cannot_be_serialized_is_an_incident() -> None:
    async def wrong(request: Any, context: Any) -> Any:
        return {"not": SECRET}

    async def wrong_stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield {"not": SECRET}

    behaviours = {"Unary": wrong, "ServerStream": wrong_stream}
    async with serving([ErrorInterceptor()], behaviours) as echo:
        for arity in behaviours:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await echo.call(arity)
            assert told(caught.value).code is grpc.StatusCode.INTERNAL
            assert SECRET not in str(caught.value.debug_error_string())


async def test_generated_base_servicer_is_not_built() -> None:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    device_pb2_grpc.add_DeviceServiceServicer_to_server(
        device_pb2_grpc.DeviceServiceServicer(),  # type: ignore[abstract]  # as it is meant
        server,
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.ListDevices(device_pb2.ListDevicesRequest())
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await stub.WatchDevices(device_pb2.WatchDevicesRequest()).read()
    await server.stop(0)
    for caught in (unary, stream):
        what = told(caught.value)
        assert (what.code, what.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_BUILT")


async def test_not_implemented_error_of_real_code_is_an_incident() -> None:
    async with serving(
        [ErrorInterceptor()], failing(NotImplementedError("an operator"))
    ) as echo:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.call("Unary")
    assert told(caught.value).code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("arity", ["Unary", "ServerStream"])
async def test_cancelled_by_the_client_is_no_error(
    arity: str, log_lines: list[dict[str, Any]]
) -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def unary(request: Any, context: Any) -> StringValue:
        await wait()
        return StringValue()

    async def stream(request: Any, context: Any) -> AsyncIterator[StringValue]:
        await wait()
        yield StringValue()

    async with serving([ErrorInterceptor()], {"Unary": unary, "ServerStream": stream}) as echo:
        call = echo.start(arity)
        await running.wait()
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 30)
    assert log_lines == []


async def test_client_that_leaves_during_a_write_closes_the_generator(
    log_lines: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def flood(request: Any, context: Any) -> AsyncIterator[StringValue]:
        try:
            while True:
                yield StringValue(value="x" * 2**20)
        finally:
            closed.set()

    with caplog.at_level(logging.WARNING):
        async with serving([ErrorInterceptor()], {"ServerStream": flood}) as echo:
            call = echo.start("ServerStream")
            await call.read()  # and no more: the next writes wait for the window
            call.cancel()
            await asyncio.wait_for(closed.wait(), 30)
    assert log_lines == []
    assert caplog.records == []


async def test_write_that_fails_because_the_call_ended_is_a_cancellation(
    log_lines: list[dict[str, Any]],
) -> None:
    """As grpc.aio does when the client cancels while a write is under way."""
    raised: list[BaseException] = []

    async def late(request: Any, context: Any) -> AsyncIterator[StringValue]:
        yield StringValue()
        raise grpc.aio.InternalError("failed to send a message")

    class Outer(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            from server.interceptors import behaviour_of, with_behaviour

            handler = await continuation(details)
            inner = behaviour_of(handler)

            async def watched(request: Any, context: Any) -> Any:
                try:
                    return await inner(request, context)
                except BaseException as error:
                    raised.append(error)
                    raise

            return with_behaviour(handler, watched)

    async with serving([Outer(), ErrorInterceptor()], {"ServerStream": late}) as echo:
        call = echo.start("ServerStream")
        await call.read()
        call.cancel()
    assert [type(error) for error in raised] == [asyncio.CancelledError]
    assert log_lines == []
