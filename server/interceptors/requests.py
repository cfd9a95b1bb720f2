"""Reads requests: whatever the form of a method, its messages come through here.

A message is asked for when its call has been let in, and not before; is waited for only so
long; is counted before it is parsed, and looked through before a servicer sees it. What
takes long is done in pieces, between which other calls get their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import grpc.aio
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from domains.errors import (
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    Reason,
    ResourceExhausted,
)
from server import logs
from server.interceptors import Context, Handler, Interceptor, behaviour_of, with_request_bytes
from server.interceptors.content import unfit
from server.interceptors.counts import NotAMessage, counted

# These answer with the rules that a request breaks as data, so lists a little too long are
# theirs to judge.
_JUDGING = ("ValidateGeneration", "ValidateWorkflow")
_JUDGING_SLACK = 2
_MOST_VIOLATIONS = 100  # a client sees twenty and a count

_HEAR_OUT_SECONDS = 0.1
_BEGUN: ContextVar[bool] = ContextVar("request_begun", default=False)

Read = Callable[[bytes], Awaitable[Any]]


class MalformedMessage(InvalidArgument):
    """The bytes are not a message of the expected type."""

    reason = Reason.MALFORMED_MESSAGE


class MessageTooLarge(ResourceExhausted):
    """A request is larger than this server accepts."""

    reason = Reason.MESSAGE_TOO_LARGE


class NothingSent(DeadlineExceeded):
    """A client opened a call and then sent nothing for too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The client sent nothing for {seconds:g} s, so its call was ended; open it again"
            " when there is something to send.",
            metadata={"idle_seconds": f"{seconds:g}"},
        )


async def hear_out(context: Context) -> None:
    """Take the message of a call that is refused before it was read, without parsing it.

    A client that still writes when its call ends may see its write fail before it sees why.
    """
    if not _BEGUN.get():
        with contextlib.suppress(TimeoutError, grpc.aio.UsageError):
            async with asyncio.timeout(_HEAR_OUT_SECONDS):
                await context.read()


class RequestInterceptor(Interceptor):
    """Innermost: inside of what decides whether a call is let in.

    Args:
        max_message_bytes: Largest request.
        idle_seconds: How long a message may be waited for.
    """

    def __init__(self, max_message_bytes: int = 4 * 2**20, idle_seconds: float = 60.0) -> None:
        self._max_message_bytes = max_message_bytes
        self._idle_seconds = idle_seconds

    def wrap(self, handler: Handler, method: str) -> Handler:
        inner = behaviour_of(handler)
        # What the generated base answers is NOT_BUILT, however little was sent.
        built = not inner.__module__.endswith("_pb2_grpc")
        read = self._reader(handler, method, whole=built)

        async def reading_one(_: object, context: Context) -> Any:
            request = await read(await self._only(context))
            logs.bind_ids(request)
            return await inner(request, context)

        async def reading_all(_: object, context: Context) -> Any:
            return await inner(self._each(context, read), context)

        return with_request_bytes(
            handler, reading_all if handler.request_streaming else reading_one
        )

    # By the context and not by the iterator that comes with the call: that one would keep
    # the last message until it is collected.

    async def _next(self, context: Context) -> bytes | None:
        """The next message as it came; None when the client has sent all."""
        _BEGUN.set(True)
        try:
            async with asyncio.timeout(self._idle_seconds):
                data: Any = await context.read()
        except TimeoutError:
            raise NothingSent(self._idle_seconds) from None
        return None if data is grpc.aio.EOF else data

    async def _only(self, context: Context) -> bytes:
        data = await self._next(context)
        if data is None:
            raise MalformedMessage("The call ended without a message.")
        return data

    async def _each(self, context: Context, read: Read) -> AsyncIterator[Any]:
        while (data := await self._next(context)) is not None:
            yield await read(data)

    def _reader(self, handler: Handler, method: str, *, whole: bool) -> Read:
        deserialize: Any = handler.request_deserializer
        kind = _kind_read_by(deserialize)
        slack = _JUDGING_SLACK if method.endswith(_JUDGING) else 1

        async def read(data: bytes) -> Any:
            if len(data) > self._max_message_bytes:
                raise _too_large(len(data), self._max_message_bytes)
            if kind is not None:
                await _count(data, kind, slack)
            request = _parsed(data, deserialize)
            if isinstance(request, Message):
                await _refuse_unfit(request, whole=whole)
            return request

        return read


async def _count(data: bytes, kind: Descriptor, slack: int) -> None:
    try:
        await _in_pieces(counted(data, kind, slack))
    except NotAMessage:
        raise _malformed() from None


def _parsed(data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    try:
        return deserialize(data)
    except Exception:
        raise _malformed() from None


async def _refuse_unfit(request: Message, *, whole: bool) -> None:
    violations = await _in_pieces(unfit(request, whole=whole))
    if violations:
        raise InvalidArgument.of(*violations)


async def _in_pieces(work: Iterator[FieldViolation | None]) -> list[FieldViolation]:
    """What the work finds; at each None it rests while others get their turn."""
    found: list[FieldViolation] = []
    for item in work:
        if item is None:
            await asyncio.sleep(0)
        else:
            found.append(item)
            if len(found) == _MOST_VIOLATIONS:
                break
    return found


def _kind_read_by(deserialize: object) -> Descriptor | None:
    """The type of message that a generated parser makes; None for any other."""
    made: Any = getattr(deserialize, "__self__", None)
    found: Descriptor | None = getattr(made, "DESCRIPTOR", None)
    return found


def _malformed() -> MalformedMessage:
    return MalformedMessage(
        "The bytes are not a message of the type this method takes; were both sides"
        " generated from the same .proto files?"
    )


def _too_large(size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"A message may have {limit} bytes; send pictures as artifacts, in chunks.",
        metadata={"max_bytes": str(limit), "size_bytes": str(size)},
    )
