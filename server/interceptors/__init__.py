"""What every call passes on its way to a servicer: log, errors, auth, admission.

One interceptor per file. They share one view of a handler: a coroutine function that
takes the request (or the iterator of requests) and the context, and either returns the
response or writes its responses to the context.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import traceback
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from domains.clients import STRANGER, caller
from server import logs

if TYPE_CHECKING:  # generic in the stubs only
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Handler = grpc.RpcMethodHandler
    Context = grpc.aio.ServicerContext
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
Behaviour = Callable[[Any, Context], Awaitable[Any]]
Codec = Callable[[Any], Any] | None


class Interceptor(grpc.aio.ServerInterceptor):
    """Puts something around every method that the server has."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        return None if handler is None else self.wrap(handler, handler_call_details.method)

    @abstractmethod
    def wrap(self, handler: Handler, method: str) -> Handler:
        """The handler of `/package.Service/Method` with more around it."""


def behaviour_of(handler: Handler) -> Behaviour:
    """The handler's function, whatever its arity and form, in the common view."""
    function: Any = (
        handler.unary_unary
        or handler.unary_stream
        or handler.stream_unary
        or handler.stream_stream
    )

    async def behave(request: Any, context: Context) -> Any:
        result = function(request, context)
        if hasattr(result, "__aiter__"):
            await _write_all(result, context)
            return None
        return await result if inspect.isawaitable(result) else result

    return function if inspect.iscoroutinefunction(function) else behave


def with_behaviour(handler: Handler, behaviour: Behaviour) -> Handler:
    """The same method with another behaviour."""
    return with_codec(
        handler, behaviour, handler.request_deserializer, handler.response_serializer
    )


def with_codec(
    handler: Handler,
    behaviour: Behaviour,
    deserializer: Codec,
    serializer: Codec,
) -> Handler:
    """The same method with another behaviour, parser and serializer; None passes bytes."""
    make = _METHOD_HANDLERS[handler.request_streaming, handler.response_streaming]
    return make(behaviour, deserializer, serializer)


def with_request_bytes(handler: Handler, behaviour: Behaviour) -> Handler:
    """The same method, whose behaviour takes an iterator of request bytes in any case.

    On the wire one message and a stream of messages begin alike; but a single one would be
    received before the behaviour begins, and by nobody who has a bound for it.
    """
    make = _METHOD_HANDLERS[True, handler.response_streaming]
    return make(behaviour, None, handler.response_serializer)


def refusal(error: Exception) -> Handler:
    """A handler that fails with `error` without reading a request, for any arity."""

    async def refuse(requests: Any, context: Context) -> Any:
        raise error

    return grpc.stream_stream_rpc_method_handler(refuse)


def outcome(
    context: Context, error: BaseException | None, past_deadline: Callable[[], bool]
) -> grpc.StatusCode:
    """The status a call ended with, seen from outside its behaviour; `past_deadline` as
    `deadline_of` gives it."""
    if isinstance(error, asyncio.CancelledError):
        expired = past_deadline()
        return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN


def whose(context: Context) -> tuple[str, bool]:
    """Whose a call is, once that is known: a client's name, or where a stranger calls from, who
    has no other; and whether it is a client."""
    known = caller() is not STRANGER
    return (caller().name if known else context.peer()), known


def let_go(error: BaseException) -> None:
    """Empty the frames that an exception, and those before it, came through.

    What a call worked on, megabytes of messages among it, would live on in circles through
    the tracebacks until the collector comes by.
    """
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at = at.__context__


async def _write_all(responses: AsyncIterator[Any], context: Context) -> None:
    """Write a generator's responses; it is closed before this returns, however it ends.

    Left to the garbage collector, its `finally` would run some time after the client left.
    """
    first = True
    async with contextlib.aclosing(responses):  # type: ignore[type-var]
        async for response in responses:
            if first:
                logs.bind_ids(response)
                first = False
            await context.write(response)


_METHOD_HANDLERS: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
