"""A servicer behind a real channel, with the server's own way of telling errors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from domains.clients import DEFAULT_CLIENT, Caller, Role, calling
from server.interceptors import Context, Handler, Interceptor, behaviour_of, with_behaviour
from server.interceptors.errors import ErrorInterceptor


class _Calling(Interceptor):
    """Calls are of the client that their metadata names, as if they had its token."""

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)

        async def known(request: Any, context: Context) -> Any:
            said: dict[str, Any] = dict(context.invocation_metadata() or ())
            name, role = said.get("client", DEFAULT_CLIENT), Role(said.get("role", "admin"))
            with calling(Caller(name, role)):
                return await inner(request, context)

        return with_behaviour(handler, known)


def by(name: str, role: Role = Role.RUN) -> tuple[tuple[str, str], ...]:
    """Metadata of a call of this client."""
    return (("client", name), ("role", role.value))


@contextlib.asynccontextmanager
async def channel_to(
    add: Callable[[Any, grpc.aio.Server], None], servicer: Any
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve on loopback until the block ends; calls are of the default client, an ADMIN, but
    for those with `by(...)` as metadata.

    Args:
        add: The generated `add_..._to_server`.
        servicer: What answers.
    """
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), _Calling()])
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


@dataclass(frozen=True)
class Refusal:
    """A failed call as a client sees it."""

    code: grpc.StatusCode
    reason: str
    message: str
    fields: tuple[str, ...]
    metadata: Mapping[str, str]


async def refusal(call: Any) -> Refusal:
    """Await a call that must fail, and read the details of its status."""
    try:
        response = await call
    except grpc.aio.AioRpcError as error:
        return _read(error)
    raise AssertionError(f"the call succeeded: {response}")


def _read(error: grpc.aio.AioRpcError) -> Refusal:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(request)
    return Refusal(
        error.code(),
        info.reason,
        error.details() or "",
        tuple(violation.field for violation in request.field_violations),
        dict(info.metadata),
    )
