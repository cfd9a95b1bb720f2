"""How many calls are open at once, and how all of them end when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from domains.rooms import Room
from server.interceptors import behaviour_of, with_behaviour
from server.interceptors.admission import Admission, AdmissionInterceptor
from server.interceptors.call_classes import CallClass
from server.interceptors.errors import ErrorInterceptor
from tests.callers import Word, called
from tests.server.echo import ARITIES, Echo, serving, told

SERVICE = "deviceops.v1.ProcessingService"  # the four arities are no methods of it: work
LIMITED = (CallClass.WORK, CallClass.SESSION, CallClass.WATCH)


def one_each() -> dict[CallClass, Room]:
    return {kind: Room(1) for kind in LIMITED}


class Gate:
    """Behaviours that hold their call open until told, and say when it has begun."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.opened = asyncio.Event()

    async def unary(self, request: Any, context: Any) -> StringValue:
        self.begun.put_nowait("unary")
        await self.opened.wait()
        return StringValue(value="through")

    async def stream(self, request: Any, context: Any) -> AsyncIterator[StringValue]:
        self.begun.put_nowait("stream")
        await self.opened.wait()
        yield StringValue(value="through")

    @property
    def behaviours(self) -> dict[str, Any]:
        return {
            "Unary": self.unary,
            "ServerStream": self.stream,
            "ClientStream": self.unary,
            "Duplex": self.stream,
            "WatchSession": self.stream,
            "RunWorkflow": self.stream,
            "GetSession": self.stream,
        }


def around(admission: Admission) -> list[grpc.aio.ServerInterceptor]:
    return [ErrorInterceptor(), Word(), AdmissionInterceptor(admission)]


async def refused(echo: Echo, method: str) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await echo.call(method)
    return told(caught.value)


@pytest.mark.parametrize("arity", ARITIES)
async def test_one_call_too_many_is_refused_and_the_place_is_given_back(arity: str) -> None:
    gate, admission = Gate(), Admission(one_each())
    async with serving(around(admission), gate.behaviours) as echo:
        held = asyncio.ensure_future(echo.call(arity))
        await gate.begun.get()
        what = await refused(echo, arity)
        gate.opened.set()
        assert await held == ["through"]
        assert await echo.call(arity) == ["through"]
    assert (what.code, what.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
    )
    assert what.retry_seconds == 1
    assert what.metadata["limit"] == "1"


async def test_every_class_has_a_limit_of_its_own() -> None:
    gate, admission = Gate(), Admission(one_each())
    classes = {"Unary": "work", "RunWorkflow": "session", "WatchSession": "watch"}
    async with serving(around(admission), gate.behaviours, SERVICE) as echo:
        open_calls = [asyncio.ensure_future(echo.call(method)) for method in classes]
        for _ in classes:
            await gate.begun.get()
        for method, call_class in classes.items():
            what = await refused(echo, method)
            assert (what.reason, what.metadata["call_class"]) == (
                "TOO_MANY_STREAMS",
                call_class,
            )
        gate.opened.set()
        assert await asyncio.gather(*open_calls) == [["through"]] * len(classes)


async def test_control_always_gets_through_until_the_server_drains() -> None:
    gate, admission = Gate(), Admission({**one_each(), CallClass.WORK: Room(0)})
    async with serving(around(admission), gate.behaviours, SERVICE) as echo:
        for call_class in CallClass:
            admission.begin(call_class)
        asked = [asyncio.ensure_future(echo.call("GetSession")) for _ in range(100)]
        for _ in asked:
            await gate.begun.get()
        gate.opened.set()
        assert await asyncio.gather(*asked) == [["through"]] * len(asked)
        admission.drain()
        assert (await refused(echo, "GetSession")).reason == "SHUTTING_DOWN"


async def test_health_answers_when_the_server_is_full_and_when_it_drains() -> None:
    admission = Admission(one_each())
    async with serving(around(admission), service="grpc.health.v1.Health") as echo:
        admission.begin(CallClass.WORK)
        assert await echo.call("Unary") == ["hi"]
        admission.drain()
        assert await echo.call("Unary") == ["hi"]


async def test_a_cancelled_call_gives_its_place_back() -> None:
    gate, admission = Gate(), Admission(one_each())
    async with serving(around(admission), gate.behaviours) as echo:
        call = echo.start("ServerStream")
        await gate.begun.get()
        call.cancel()
        await asyncio.wait_for(admission.idle(), 30)
        gate.opened.set()
        assert await echo.call("ServerStream") == ["through"]


@pytest.mark.parametrize("arity", ARITIES)
async def test_draining_refuses_new_calls_and_lets_open_ones_end(arity: str) -> None:
    gate, admission = Gate(), Admission({})
    async with serving(around(admission), gate.behaviours) as echo:
        held = asyncio.ensure_future(echo.call(arity))
        await gate.begun.get()
        admission.drain()
        what = await refused(echo, arity)
        idle = asyncio.ensure_future(admission.idle())
        gate.opened.set()
        assert await held == ["through"]
        await asyncio.wait_for(idle, 30)
    assert (what.code, what.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert what.retry_seconds == 5


@pytest.mark.parametrize(
    "counted", [CallClass.CONTROL, CallClass.WORK, CallClass.SESSION], ids=lambda c: c.value
)
async def test_a_drain_waits_for_every_call_that_has_an_end(counted: CallClass) -> None:
    admission = Admission({})
    first, second = admission.begin(counted), admission.begin(CallClass.CONTROL)
    idle = asyncio.ensure_future(admission.idle())
    admission.finish(CallClass.CONTROL, second)
    await asyncio.sleep(0)
    assert not idle.done()
    admission.finish(counted, first)
    await asyncio.wait_for(idle, 30)


async def test_open_watches_do_not_keep_the_server_busy() -> None:
    gate, admission = Gate(), Admission({})
    async with serving(around(admission), gate.behaviours, SERVICE) as echo:
        watch = asyncio.ensure_future(echo.call("WatchSession"))
        await gate.begun.get()
        await asyncio.wait_for(admission.idle(), 30)
        gate.opened.set()
        await watch


@pytest.mark.parametrize("method", [*ARITIES, "WatchSession", "RunWorkflow"])
async def test_end_all_tells_clients_that_the_server_stops(method: str) -> None:
    gate, admission = Gate(), Admission({})
    async with serving(around(admission), gate.behaviours, SERVICE) as echo:
        held = asyncio.ensure_future(echo.call(method))
        await gate.begun.get()
        admission.end_all()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(held, 30)
    what = told(caught.value)
    assert (what.code, what.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")


async def test_what_lies_around_an_ended_call_is_not_cancelled_with_it() -> None:
    """A call that was ended has only failed: its task can wait, with time limits of its own."""
    still_cancelled: list[int] = []

    class Outer(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = await continuation(details)
            inner = behaviour_of(handler)

            async def watched(request: Any, context: Any) -> Any:
                task = asyncio.current_task()
                assert task is not None
                try:
                    return await inner(request, context)
                finally:
                    still_cancelled.append(task.cancelling())

            return with_behaviour(handler, watched)

    gate, admission = Gate(), Admission({})
    interceptors = [ErrorInterceptor(), Outer(), AdmissionInterceptor(admission)]
    async with serving(interceptors, gate.behaviours, SERVICE) as echo:
        held = asyncio.ensure_future(echo.call("RunWorkflow"))
        await gate.begun.get()
        admission.end_all()
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(held, 30)
    assert still_cancelled == [0]


async def test_strangers_never_take_the_room_of_those_with_the_token() -> None:
    gate = Gate()
    kinds = (CallClass.TOKENLESS, CallClass.TOKENLESS_WATCH)
    admission = Admission({kind: Room(1) for kind in (*kinds, CallClass.HEALTH)})
    around = [ErrorInterceptor(), Word(), AdmissionInterceptor(admission)]
    behaviours = {"Watch": gate.stream, "Unary": gate.unary}
    async with serving(around, behaviours, "grpc.health.v1.Health") as echo:
        held = [asyncio.ensure_future(echo.call(method)) for method in behaviours]
        for _ in held:
            await gate.begun.get()
        told_to_strangers = [await refused(echo, method) for method in behaviours]
        gate.opened.set()
        assert await echo.call("Unary", metadata=called("ann")) == ["through"]
        assert await echo.call("Watch", metadata=called("ann")) == ["through"]
        await asyncio.gather(*held)
    assert [what.reason for what in told_to_strangers] == ["TOO_MANY_STREAMS"] * 2
    assert [what.metadata["call_class"] for what in told_to_strangers] == [
        "tokenless-watch",
        "tokenless",
    ]


async def test_strangers_are_kept_apart_by_where_they_call_from() -> None:
    gate = Gate()
    admission = Admission({CallClass.TOKENLESS_WATCH: Room(2, 1)})
    around = [ErrorInterceptor(), Word(), AdmissionInterceptor(admission)]
    async with serving(around, {"Watch": gate.stream}, "grpc.health.v1.Health") as echo:
        many = [asyncio.ensure_future(echo.call("Watch")) for _ in range(2)]
        for _ in many:
            await gate.begun.get()
        assert (await refused(echo, "Watch")).metadata["limit"] == "2"
        async with grpc.aio.insecure_channel(
            echo.target, [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            other = asyncio.ensure_future(Echo(channel, echo.service).call("Watch"))
            await gate.begun.get()
            gate.opened.set()
            assert await other == ["through"]
        await asyncio.gather(*many)


async def test_one_client_alone_may_take_all_and_no_other_is_kept_out() -> None:
    gate = Gate()
    admission = Admission({CallClass.WATCH: Room(4)})
    around = [ErrorInterceptor(), Word(), AdmissionInterceptor(admission)]
    async with serving(around, gate.behaviours, SERVICE) as echo:

        def watch(client: str) -> asyncio.Future[Any]:
            return asyncio.ensure_future(echo.call("WatchSession", metadata=called(client)))

        greedy = [watch("greedy") for _ in range(4)]
        for _ in greedy:
            await gate.begun.get()
        others = [watch("one"), watch("two")]
        for _ in others:
            await gate.begun.get()
        for client in ("greedy", "one", "three"):
            with pytest.raises(grpc.aio.AioRpcError) as full:
                await echo.call("WatchSession", metadata=called(client))
            assert told(full.value).reason == "TOO_MANY_STREAMS"
        gate.opened.set()
        await asyncio.gather(*greedy, *others)


@pytest.mark.parametrize("method", [*ARITIES, "WatchSession", "RunWorkflow"])
async def test_a_call_ends_when_it_was_open_for_as_long_as_its_kind_may_be(
    method: str,
) -> None:
    gate = Gate()
    admission = Admission({})
    asked: list[tuple[CallClass, bool]] = []

    def maximum(kind: CallClass, streams: bool) -> float:
        asked.append((kind, streams))
        return 0.1

    around = [ErrorInterceptor(), Word(), AdmissionInterceptor(admission, maximum=maximum)]
    async with serving(around, gate.behaviours, SERVICE) as echo:
        what = await refused(echo, method)
        assert (what.code, what.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_EXPIRED",
        )
        assert what.metadata["maximum_seconds"] == "0.1"
        await asyncio.wait_for(admission.idle(), 30)
    assert [streams for _, streams in asked] == [method != "Unary"]


async def test_a_time_out_of_the_work_s_own_is_not_taken_for_the_maximum() -> None:
    async def fail(request: Any, context: Any) -> Any:
        raise TimeoutError

    around = [
        ErrorInterceptor(),
        Word(),
        AdmissionInterceptor(Admission({}), maximum=lambda *_: 60),
    ]
    async with serving(around, {"Unary": fail}) as echo:
        assert (await refused(echo, "Unary")).reason == "INTERNAL"
