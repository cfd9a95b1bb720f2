"""A client that stops reading loses its stream, and nobody else is harmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from domains.rooms import Room
from server.interceptors import Context
from server.interceptors.admission import Admission, AdmissionInterceptor
from server.interceptors.call_classes import CallClass
from server.interceptors.errors import ErrorInterceptor
from server.interceptors.stall import StallInterceptor, _BoundedContext, _Stalled
from tests.callers import Word, called
from tests.server.echo import serving, told

MEGABYTE = "x" * 2**20


class Flood:
    """A stream of a hundred megabytes, and how it ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = asyncio.Event()

    async def stream(self, request: Any, context: Any) -> AsyncIterator[StringValue]:
        try:
            for _ in range(100):
                yield StringValue(value=MEGABYTE)
                self.sent += 1
        finally:
            self.ended.set()


async def test_a_reader_that_stops_is_cut_off_and_its_place_is_free_again() -> None:
    flood = Flood()
    admission = Admission({CallClass.WORK: Room(1)})
    around = [ErrorInterceptor(), StallInterceptor(0.5), AdmissionInterceptor(admission)]
    behaviours = {"ServerStream": flood.stream, "Unary": _echo}
    async with serving(around, behaviours) as echo:
        call = echo.start("ServerStream")
        responses = aiter(call)
        await anext(responses)

        async with asyncio.timeout(30):
            await flood.ended.wait()
            await admission.idle()
        assert flood.sent < 100
        assert await echo.call("Unary") == ["hi"]

        with pytest.raises(grpc.aio.AioRpcError) as end:
            async with asyncio.timeout(30):
                await rest(responses)
    assert told(end.value).reason == "SLOW_READER"


async def test_a_stalled_client_that_leaves_ends_its_call() -> None:
    flood = Flood()
    around = [ErrorInterceptor(), StallInterceptor(0.5)]
    async with serving(around, {"ServerStream": flood.stream}) as echo:
        call = echo.start("ServerStream")
        await anext(aiter(call))
        async with asyncio.timeout(30):
            await flood.ended.wait()
        call.cancel()
        assert await echo.call("Unary") == ["hi"]


async def test_a_reader_that_is_merely_slow_gets_everything() -> None:
    flood = Flood()
    async with serving(
        [ErrorInterceptor(), StallInterceptor(60)], {"ServerStream": flood.stream}
    ) as echo:
        count = 0
        async for _ in echo.start("ServerStream"):
            count += 1
            if count % 25 == 0:
                await asyncio.sleep(0.1)
    assert count == 100


async def test_a_client_that_leaves_streams_unread_gets_no_new_ones() -> None:
    floods = {"ServerStream": Flood(), "Duplex": Flood()}
    around = [ErrorInterceptor(), Word(), StallInterceptor(0.2, Room(2))]
    behaviours: dict[str, Any] = {name: flood.stream for name, flood in floods.items()}
    async with serving(around, {**behaviours, "Unary": _echo}) as echo:
        unread = [aiter(echo.start(method)) for method in floods]
        for responses in unread:
            await anext(responses)
        async with asyncio.timeout(30):
            for flood in floods.values():
                await flood.ended.wait()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await echo.call("ServerStream")
        assert told(refused.value).reason == "SLOW_READER"
        assert told(refused.value).metadata == {"unread_streams": "2"}
        assert await echo.call("Unary") == ["hi"]
        other = echo.start("ServerStream", metadata=called("other"))
        await anext(aiter(other))

        for responses in unread:
            with pytest.raises(grpc.aio.AioRpcError):
                await asyncio.wait_for(rest(responses), 30)
        await anext(aiter(echo.start("ServerStream")))


async def test_each_message_has_the_whole_patience() -> None:
    """However long the stream has been going on: its timer is older than the message."""
    taken = asyncio.Event()
    written: list[str] = []

    class Client:
        async def write(self, message: str) -> None:
            written.append(message)
            await taken.wait()

    bounded = _BoundedContext(cast("Context", Client()), 60.0)
    bounded._look()  # nothing waits
    first = asyncio.create_task(bounded.write("first"))
    await asyncio.sleep(0)
    bounded._since -= 59.0
    bounded._look()
    assert bounded._watch is not None  # for the second that is left
    taken.set()
    await first
    bounded._look()
    assert bounded._watch is None
    taken.clear()
    second = asyncio.create_task(bounded.write("second"))
    await asyncio.sleep(0)
    bounded._look()
    bounded._since -= 60.0
    bounded._look()
    with pytest.raises(_Stalled) as stalled:
        await second
    assert not stalled.value.pending.done()
    taken.set()
    await stalled.value.pending
    assert written == ["first", "second"]
    bounded.close()


class Unread:
    """A call whose client takes messages once it is told to."""

    def __init__(self, patience_seconds: float) -> None:
        self.taken, self.let_go = asyncio.Event(), asyncio.Event()
        self.written: list[str] = []
        handler = StallInterceptor(patience_seconds).wrap(
            grpc.unary_stream_rpc_method_handler(self._behave), "/test.Echo/ServerStream"
        )
        self.call = asyncio.ensure_future(handler.unary_stream("", self))

    async def _behave(self, request: str, context: Any) -> None:
        try:
            await context.write("a message")
        finally:
            self.let_go.set()

    async def write(self, message: str) -> None:
        await self.taken.wait()
        self.written.append(message)

    async def under_way(self) -> Unread:
        for _ in range(3):
            await asyncio.sleep(0)
        return self


async def test_a_call_that_is_ended_waits_for_the_message_under_way() -> None:
    """Before it is sent no status can be: the library would send the call's head twice."""
    unread = await Unread(60.0).under_way()
    unread.call.cancel()
    # What it holds is given back meanwhile: its client may never read.
    await asyncio.wait_for(unread.let_go.wait(), 30)
    await asyncio.sleep(0.01)
    assert not unread.call.done()
    unread.taken.set()
    with pytest.raises(asyncio.CancelledError):
        await unread.call
    assert unread.written == ["a message"]


@pytest.mark.parametrize(("patience", "cancels"), [(0.01, 1), (60.0, 2)])
async def test_not_for_longer_than_any_message_may_wait_nor_once_it_is_to_end_at_once(
    patience: float, cancels: int
) -> None:
    unread = await Unread(patience).under_way()
    for _ in range(cancels):
        unread.call.cancel()
        await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(unread.call, 30)
    assert unread.let_go.is_set()
    unread.taken.set()
    await asyncio.sleep(0.01)
    assert unread.written == [], "its sending was broken off"


async def test_a_call_that_is_ended_between_messages_ends_at_once() -> None:
    unread = Unread(60.0)
    unread.taken.set()
    await unread.call
    assert unread.written == ["a message"]
    bounded = _BoundedContext(cast("Context", unread), 60.0)
    await asyncio.wait_for(bounded.let_take(), 30)
    await bounded.write("another")
    await asyncio.wait_for(bounded.let_take(), 30)
    bounded.close()


async def rest(responses: AsyncIterator[StringValue]) -> None:
    async for _ in responses:
        pass


async def _echo(request: StringValue, context: Any) -> StringValue:
    return request
