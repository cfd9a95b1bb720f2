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

from domains.errors import (
    DomainError,
    InvalidArgument,
    Reason,
    ResourceExhausted,
    Unimplemented,
)
from server.errors import to_status
from server.interceptors import Context, Handler, Interceptor, behaviour_of, with_codec


class MalformedMessage(InvalidArgument):
    """The bytes are not a message of the expected type."""

    reason = Reason.MALFORMED_MESSAGE


class MessageTooLarge(ResourceExhausted):
    """A request is larger than this server accepts."""

    reason = Reason.MESSAGE_TOO_LARGE


class ErrorInterceptor(Interceptor):
    """Outside of everything that may raise; inside of what only observes."""

    def __init__(self, max_message_bytes: int = 4 * 2**20) -> None:
        self._max_message_bytes = max_message_bytes

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)
        serializer = handler.response_serializer

        async def guarded(request: Any, context: Context) -> Any:
            try:
                if isinstance(request, DomainError):
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
            deserializer = _parsing(deserializer, self._max_message_bytes)
            if not handler.request_streaming:
                deserializer = _returning(deserializer)
        if not handler.response_streaming:
            return with_codec(handler, guarded, deserializer, None)
        return with_codec(handler, guarded, deserializer, serializer)


def _parsing(deserialize: Callable[[bytes], Any], limit: int) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        if len(data) > limit:
            raise MessageTooLarge(
                f"A message may have {limit} bytes; send pictures as artifacts, in chunks.",
                metadata={"max_bytes": str(limit), "size_bytes": str(len(data))},
            )
        try:
            return deserialize(data)
        except Exception:
            raise MalformedMessage(
                "The bytes are not a message of the type this method takes; were both sides"
                " generated from the same .proto files?"
            ) from None

    return parse


def _returning(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For single requests: parsed before the behaviour, where nothing catches."""

    def parse_or_error(data: bytes) -> Any:
        try:
            return parse(data)
        except DomainError as error:
            return error

    return parse_or_error


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
