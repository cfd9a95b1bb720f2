"""Turns every way a call can fail into a status that clients can act on.

Without it, grpc.aio answers UNKNOWN with the exception's text: paths and worse for a defect.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from domains.errors import DomainError, Unimplemented
from server.errors import to_status
from server.interceptors import (
    Context,
    Handler,
    Interceptor,
    behaviour_of,
    let_go,
    with_codec,
)
from server.interceptors.requests import hear_out


class ErrorInterceptor(Interceptor):
    """Outside of everything that may raise; inside of what only observes."""

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)
        serializer = handler.response_serializer

        async def guarded(request: Any, context: Context) -> Any:
            try:
                response = await inner(request, context)
                if handler.response_streaming or serializer is None:
                    return response
                return serializer(response)
            except (asyncio.CancelledError, grpc.aio.AbortError) as error:
                let_go(error)
                raise
            except Exception as error:
                if _client_is_gone(error, context):
                    raise asyncio.CancelledError from error
                status = to_status(_as_not_built(error, context))
                let_go(error)
                await hear_out(context)
                await context.abort_with_status(status)

        deserializer = handler.request_deserializer
        if not handler.response_streaming:
            return with_codec(handler, guarded, deserializer, None)
        return with_codec(handler, guarded, deserializer, serializer)


def _client_is_gone(error: Exception, context: Context) -> bool:
    """Whether grpc.aio failed to read or write because the call had ended meanwhile."""
    if isinstance(error, grpc.aio.UsageError):
        return context.done()
    return isinstance(error, grpc.aio.InternalError)


def _as_not_built(error: Exception, context: Context) -> Exception:
    """The generated base servicers set UNIMPLEMENTED and raise; others merely raise."""
    code: Any = context.code()
    if isinstance(error, DomainError) or not isinstance(error, NotImplementedError):
        return error
    if code is not grpc.StatusCode.UNIMPLEMENTED:
        return error
    return Unimplemented("This version of the server does not do that yet.")
