"""A real gRPC service of four methods, one per arity, for tests of what surrounds servicers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

ARITIES = ("Unary", "ServerStream", "ClientStream", "Duplex")
UNREADABLE = b"\xff\xff\xff"  # no StringValue: a field number whose varint never ends


async def echo_unary(request: StringValue, context: Any) -> StringValue:
    return request


async def echo_server_stream(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    yield request
    yield request


async def echo_client_stream(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
    return StringValue(value=",".join([request.value async for request in requests]))


async def echo_duplex(
    requests: AsyncIterator[StringValue], context: Any
) -> AsyncIterator[StringValue]:
    async for request in requests:
        yield request


ECHO: dict[str, Callable[..., Any]] = {
    "Unary": echo_unary,
    "ServerStream": echo_server_stream,
    "ClientStream": echo_client_stream,
    "Duplex": echo_duplex,
}


def failing(error: BaseException) -> dict[str, Callable[..., Any]]:
    """Behaviours that raise; the streams after one message."""

    async def fail(request: Any, context: Any) -> StringValue:
        raise error

    async def fail_midway(request: Any, context: Any) -> AsyncIterator[StringValue]:
        yield StringValue(value="before")
        raise error

    return {
        "Unary": fail,
        "ServerStream": fail_midway,
        "ClientStream": fail,
        "Duplex": fail_midway,
    }


_MAKERS = {
    "Unary": grpc.unary_unary_rpc_method_handler,
    "ServerStream": grpc.unary_stream_rpc_method_handler,
    "ClientStream": grpc.stream_unary_rpc_method_handler,
    "Duplex": grpc.stream_stream_rpc_method_handler,
}


def handlers(
    behaviours: dict[str, Callable[..., Any]], service: str = "test.Echo"
) -> grpc.GenericRpcHandler:
    """The service's methods; names beyond the four are server streams."""
    made = {
        name: _MAKERS.get(name, grpc.unary_stream_rpc_method_handler)(
            behaviour,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for name, behaviour in behaviours.items()
    }
    return grpc.method_handlers_generic_handler(service, made)


@dataclass
class Echo:
    """A client of the service."""

    channel: grpc.aio.Channel
    service: str = "test.Echo"
    target: str = ""

    def start(self, method: str, raw: bytes | None = None, **options: Any) -> Any:
        """Begin a call; `raw` sends those bytes instead of a message saying `hi`."""
        data = StringValue(value="hi").SerializeToString() if raw is None else raw
        path = f"/{self.service}/{method}"
        make = {
            "Unary": self.channel.unary_unary,
            "ClientStream": self.channel.stream_unary,
            "Duplex": self.channel.stream_stream,
        }.get(method, self.channel.unary_stream)
        multicallable: Any = make(path, response_deserializer=StringValue.FromString)
        argument = iter([data]) if method in ("ClientStream", "Duplex") else data
        return multicallable(argument, **options)

    async def call(self, method: str, raw: bytes | None = None, **options: Any) -> list[str]:
        """The texts that came back. Raises AioRpcError."""
        call = self.start(method, raw, **options)
        if method in ("Unary", "ClientStream"):
            return [(await call).value]
        return [response.value async for response in call]


@contextlib.asynccontextmanager
async def serving(
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    behaviours: dict[str, Callable[..., Any]] | None = None,
    service: str = "test.Echo",
    options: Sequence[tuple[str, Any]] = (),
) -> AsyncIterator[Echo]:
    """A server with those interceptors around the service, and a client with the options."""
    server = grpc.aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers((handlers({**ECHO, **(behaviours or {})}, service),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        target = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(target, options) as channel:
            yield Echo(channel, service, target)
    finally:
        await server.stop(0)


@dataclass(frozen=True)
class Told:
    """What a client learns from a failed call."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    violations: list[tuple[str, str]]
    retry_seconds: float | None


def told(error: grpc.aio.AioRpcError) -> Told:
    """Read the rich details as a client does."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(request)
        has_retry |= detail.Unpack(retry)
    return Told(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        violations=[(v.field, v.reason) for v in request.field_violations],
        retry_seconds=retry.retry_delay.ToMilliseconds() / 1000 if has_retry else None,
    )
