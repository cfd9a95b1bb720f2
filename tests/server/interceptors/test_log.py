"""One line per call with its ids, and nothing of what the messages say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from deviceops.v1 import inference_pb2, inference_pb2_grpc
from domains.deadlines import deadline_of
from domains.errors import NotFound
from server.interceptors import outcome
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.log import LogInterceptor
from server.interceptors.requests import RequestInterceptor
from tests.server.echo import ARITIES, failing, serving

INTERCEPTORS = [LogInterceptor(), ErrorInterceptor(), RequestInterceptor()]


async def written(lines: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The lines, once there are so many: a call's own comes after its answer."""
    async with asyncio.timeout(30):
        while len(lines) < count:  # noqa: ASYNC110 - whoever logs tells nobody
            await asyncio.sleep(0.001)
    return lines


@pytest.mark.parametrize("arity", ARITIES)
async def test_call_is_logged_with_method_status_and_time(
    arity: str, log_lines: list[dict[str, Any]]
) -> None:
    async with serving(INTERCEPTORS) as echo:
        await echo.call(arity)
    [line] = await written(log_lines, 1)
    assert (line["event"], line["method"], line["code"]) == (
        "call",
        f"/test.Echo/{arity}",
        "OK",
    )
    assert line["level"] == "info"
    assert 0 < line["ms"] < 60_000


@pytest.mark.parametrize("arity", ARITIES)
async def test_failed_call_is_logged_with_what_the_client_was_told(
    arity: str, log_lines: list[dict[str, Any]]
) -> None:
    async with serving(INTERCEPTORS, failing(NotFound("Gone."))) as echo:
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.call(arity)
    [line] = await written(log_lines, 1)
    assert (line["code"], line["level"]) == ("NOT_FOUND", "info")


async def test_fault_of_the_server_is_an_error_line(log_lines: list[dict[str, Any]]) -> None:
    async with serving(INTERCEPTORS, failing(KeyError("x"))) as echo:
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.call("Unary")
    incident, line = await written(log_lines, 2)
    assert incident["method"] == "/test.Echo/Unary"  # the incident knows its call
    assert (line["code"], line["level"]) == ("INTERNAL", "error")


@pytest.mark.parametrize(
    ("deadline_seconds", "code"), [(None, "CANCELLED"), (0.2, "DEADLINE_EXCEEDED")]
)
async def test_call_without_an_answer_is_logged_with_why(
    deadline_seconds: float | None, code: str, log_lines: list[dict[str, Any]]
) -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: Any, context: Any) -> StringValue:
        context.add_done_callback(lambda _: ended.set())
        running.set()
        await asyncio.Event().wait()
        return StringValue()

    async with serving(INTERCEPTORS, {"Unary": wait}) as echo:
        call = echo.start("Unary", timeout=deadline_seconds)
        await running.wait()
        if deadline_seconds is None:
            call.cancel()
        await asyncio.wait_for(ended.wait(), 30)
    [line] = await written(log_lines, 1)
    assert line["code"] == code


@pytest.mark.parametrize(
    ("left", "code"),
    [
        (0.06, grpc.StatusCode.DEADLINE_EXCEEDED),  # the client's own had passed
        (5.0, grpc.StatusCode.CANCELLED),
    ],
)
def test_a_call_that_was_dropped_at_its_deadline_is_late(
    left: float, code: grpc.StatusCode
) -> None:
    context = mock.Mock()
    context.time_remaining.return_value = 12.4
    past_deadline = deadline_of(context)
    context.time_remaining.return_value = left
    assert outcome(context, asyncio.CancelledError(), past_deadline) is code


async def test_ids_are_logged_and_prompts_are_not(log_lines: list[dict[str, Any]]) -> None:
    class Inference(inference_pb2_grpc.InferenceServiceServicer):
        async def Generate(
            self, request: Any, context: Any
        ) -> AsyncIterator[inference_pb2.GenerateResponse]:
            response = inference_pb2.GenerateResponse()
            response.event.session_id = "session-7"
            yield response

    request = inference_pb2.GenerateRequest()
    request.options.request_id = "0b6c2f0e"
    request.settings.prompt = "a very private wish"
    server = grpc.aio.server(interceptors=INTERCEPTORS)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(
        Inference(),  # type: ignore[abstract]  # what it lacks is not called
        server,
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(
            request, metadata=[("authorization", "Bearer very-private-token")]
        )
        assert [response.event.session_id async for response in call] == ["session-7"]
    await server.stop(0)
    [line] = await written(log_lines, 1)
    assert (line["request_id"], line["session_id"]) == ("0b6c2f0e", "session-7")
    assert "private" not in str(line)


async def test_health_probes_are_debug_lines(log_lines: list[dict[str, Any]]) -> None:
    async with serving(INTERCEPTORS, service="grpc.health.v1.Health") as echo:
        await echo.call("Unary")
    [line] = await written(log_lines, 1)
    assert line["level"] == "debug"
