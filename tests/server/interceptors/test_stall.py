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


async def test_a_call_that_is_ended_waits_for_the_message_under_way() -> None:
    """Before it is sent no status can be: the library would send the call's head twice."""
    taken = asyncio.Event()
    written: list[str] = []

    class Client:
        async def write(self, message: str) -> None:
            await taken.wait()
            written.append(message)

    bounded = _BoundedContext(cast("Context", Client()), 60.0)
    ended = asyncio.create_task(bounded.write("first"))
    await asyncio.sleep(0)
    ended.cancel()
    await asyncio.sleep(0.01)
    assert not ended.done()
    taken.set()
    with pytest.raises(asyncio.CancelledError):
        await ended
    assert written == ["first"]

    # Not for longer than any message may wait, nor once it is to end at once.
    taken.clear()
    for patience, cancels in ((0.01, 1), (60.0, 2)):
        bounded = _BoundedContext(cast("Context", Client()), patience)
        ended = asyncio.create_task(bounded.write("second"))
        await asyncio.sleep(0)
        for _ in range(cancels):
            ended.cancel()
            await asyncio.sleep(0.001)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(ended, 30)
        bounded.close()
    assert written == ["first"]


async def rest(responses: AsyncIterator[StringValue]) -> None:
    async for _ in responses:
        pass


async def _echo(request: StringValue, context: Any) -> StringValue:
    return request
