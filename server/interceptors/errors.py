"""Turns every way a call can fail into a status that clients can act on.

Without it, grpc.aio answers UNKNOWN with the exception's text: parser output for bytes
that are no message, paths and worse for a defect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from domains.errors import DomainError, InvalidArgument, Reason, Unimplemented
from server.errors import to_status
from server.interceptors import Context, Continuation, Handler, behaviour_of, with_codec


class MalformedMessage(InvalidArgument):
    """The bytes are not a message of the expected type."""

    reason = Reason.MALFORMED_MESSAGE


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Outside of everything that may raise; inside of what only observes."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        inner = behaviour_of(handler)
        serializer = handler.response_serializer

        async def guarded(request: Any, context: Context) -> Any:
            try:
                if isinstance(request, MalformedMessage):
                    raise request
                response = await inner(request, context)
                if handler.response_streaming or serializer is None:
                    return response
                return serializer(response)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                if _client_is_gone(error, context):
                    raise asyncio.CancelledError from error
                await context.abort_with_status(to_status(_as_not_built(error, context)))

        deserializer = handler.request_deserializer
        if deserializer is not None:
            tolerant = _raising if handler.request_streaming else _returning
            deserializer = tolerant(deserializer)
        if not handler.response_streaming:
            return with_codec(handler, guarded, deserializer, None)
        return with_codec(handler, guarded, deserializer, serializer)


def _raising(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For streamed requests: read inside the behaviour, where exceptions are caught."""

    def strict(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:
            raise _malformed() from None

    return strict


def _returning(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For single requests: read before the behaviour, where nothing catches."""

    def tolerant(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:
            return _malformed()

    return tolerant


def _malformed() -> MalformedMessage:
    return MalformedMessage(
        "The bytes are not a message of the type this method takes; were both sides"
        " generated from the same .proto files?"
    )


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
