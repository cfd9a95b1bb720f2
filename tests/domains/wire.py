"""A servicer behind a real channel, with the server's own way of telling errors.

Whose a call is stands in its metadata (`tests.callers`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from domains.clients import DEFAULT_CLIENT, Caller, Role
from server.interceptors.errors import ErrorInterceptor
from tests.callers import Word


@contextlib.asynccontextmanager
async def channel_to(
    add: Callable[[Any, grpc.aio.Server], None], servicer: Any
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve on loopback until the block ends.

    Args:
        add: The generated `add_..._to_server`.
        servicer: What answers.
    """
    server = grpc.aio.server(
        interceptors=[ErrorInterceptor(), Word(Caller(DEFAULT_CLIENT, Role.ADMIN))]
    )
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
