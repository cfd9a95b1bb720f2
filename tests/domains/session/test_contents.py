"""Which content of models sessions are accepted for: written down, and held to at each turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from domains.codec import decode, encode
from domains.errors import DataLoss, Reason
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.records import SessionRecord
from domains.session.types import Priority, SessionKind, SessionState
from domains.values import ModelContent
from tests.clocks import SteeredTime
from tests.domains.session.conftest import plan, until_started
from tests.domains.session.servers import Disk, Server
from tests.domains.session.test_taking_up import DETACHED, endless, repeatable
from tests.domains.sessions import until_final


class Models:
    """Content by id."""

    def __init__(self, **now: str) -> None:
        self.now = now

    async def of(self, model_ids: Iterable[str]) -> tuple[ModelContent, ...]:
        return tuple(
            ModelContent(each, 1, self.now[each] * 64) for each in model_ids if each in self.now
        )

    async def check(
        self, contents: Iterable[ModelContent], stopped: Callable[[], bool]
    ) -> None:
        for each in contents:
            if each.fingerprint != self.now[each.model_id] * 64:
                raise DataLoss("Replaced.", reason=Reason.MODEL_CHECKSUM_MISMATCH)


async def done(session: Session) -> None:
    return None


def of(
    models: Models, disk: Disk, *requests: SessionRequest, clock: SteeredTime | None = None
) -> Server:
    """A server with these models, which knows these requests again."""
    server = Server(disk, clock or SteeredTime(), models=lambda: models)
    server.anew = {each.message.body: each for each in requests if each.message is not None}
    return server


def using(*companions: str, kind: SessionKind = SessionKind.GENERATION) -> SessionRequest:
    """Work with the model of that name and others."""
    request = repeatable(done)

    async def prepare() -> SessionPlan:
        return replace(plan(work=done), kind=kind, companion_ids=companions)

    return replace(request, prepare=prepare, again=lambda decided: prepare())


async def test_it_is_noted_for_every_model_that_work_draws_with() -> None:
    server = of(Models(model="a", lora="b"), Disk())
    session = await server.runner.begin(using("lora", "gone"))
    assert [each.model_id for each in session.about.contents] == ["model", "lora"]
    await until_final(session)
    assert session.state is SessionState.COMPLETED
    other = await server.runner.begin(using(kind=SessionKind.MODEL_LOAD))
    assert other.about.contents == ()  # it wants what is there
    await server.sessions.stop(0)


async def test_what_was_replaced_while_work_waited_fails_it_and_nothing_else(
    clock: SteeredTime,
) -> None:
    models = Models(model="a", lora="b")
    server = of(models, Disk(), clock=clock)
    before = await server.runner.begin(repeatable(endless, name=b"2"))
    await until_started(before)
    first = await server.runner.begin(using("lora"))
    models.now["lora"] = "c"
    before.request_cancel(Reason.CANCELLED_BY_CLIENT)
    await until_final(first)
    assert first.failure is not None
    assert first.failure.message == "Replaced."
    assert first.state is SessionState.FAILED
    second = await server.runner.begin(using("lora"))
    await until_final(second)
    assert second.state is SessionState.COMPLETED
    await server.sessions.stop(0)


async def test_what_it_is_a_part_of_was_accepted_before() -> None:
    """An item of a batch, whose batch was accepted when the model was another one."""
    models = Models(model="b", lora="b")
    server = of(models, Disk())
    before = (ModelContent("model", 1, "a" * 64),)
    session = await server.runner.begin(replace(using("lora"), contents=before))
    assert [each.fingerprint[0] for each in session.about.contents] == ["a", "b"]
    await until_final(session)
    assert session.failure is not None
    assert session.failure.message == "Replaced."
    await server.sessions.stop(0)


async def test_the_next_server_holds_work_to_what_it_was_accepted_for() -> None:
    """Before it looks at anything else of it; and again when its turn comes."""
    for replaced_at, taken_up in ((1, 0), (2, 1), (3, 1)):
        models, disk, request = Models(model="a"), Disk(), using()
        first = of(models, disk, request)
        session = await first.runner.begin(request)
        first.sessions.pause(session, "", "")
        await first.sessions.settled(session)
        if replaced_at == 1:
            models.now["model"] = "b"
        second = of(models, disk, request)
        prepared = []

        async def again(decided: object, prepared: list[object] = prepared) -> SessionPlan:
            prepared.append(decided)
            return plan(work=done)

        second.anew = {b"1": replace(request, again=again)}
        await second.taking_up.run()
        found = second.sessions.get(session.session_id)
        assert len(prepared) == taken_up
        if replaced_at == 2:
            models.now["model"] = "b"
        if taken_up:
            second.sessions.resume(found, "")
        await until_final(found)
        failed = found.failure is not None
        assert failed is (replaced_at < 3), replaced_at
        await second.sessions.stop(0)
        await first.sessions.stop(0)


async def test_a_row_of_a_version_that_noted_nothing_is_taken_up() -> None:
    models, disk, request = Models(model="a"), Disk(), using()
    first = of(models, disk, request)
    session = await first.runner.begin(request)
    first.sessions.pause(session, "", "")
    await first.sessions.settled(session)
    (key,) = disk.records
    record = decode(SessionRecord, disk.records[key])
    assert [each.model_id for each in record.contents] == ["model"]
    disk.records[key] = _without_contents(record)
    second = of(Models(model="b"), disk, request)
    await second.taking_up.run()
    found = second.sessions.get(session.session_id)
    second.sessions.resume(found, "")
    await until_final(found)
    assert found.state is SessionState.COMPLETED
    await second.sessions.stop(0)
    await first.sessions.stop(0)


def _without_contents(record: SessionRecord) -> bytes:
    body = encode(record)
    raw: dict[str, object] = decode(dict, body)
    del raw["contents"]
    return encode(raw)


async def test_looking_lets_nothing_begin_before_what_is_more_urgent(
    clock: SteeredTime,
) -> None:
    """Files are looked at in threads; meanwhile nothing that was taken up first begins."""

    class Slow(Models):
        async def check(
            self, contents: Iterable[ModelContent], stopped: Callable[[], bool]
        ) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            await super().check(contents, stopped)

    begun: list[str] = []
    order = {b"late": Priority.LOW, b"soon": Priority.HIGH}

    def named(name: bytes, priority: Priority) -> SessionRequest:
        async def work(session: Session) -> None:
            begun.append(name.decode())

        return repeatable(work, replace(DETACHED, priority=priority), name=name)

    models, disk = Slow(model="a"), Disk()
    first = of(models, disk, clock=clock)
    await until_started(await first.runner.begin(repeatable(endless, name=b"blocked")))
    for name, priority in order.items():
        options = replace(DETACHED, priority=priority)
        await first.runner.begin(repeatable(endless, options, name=name))
    order[b"blocked"] = Priority.NORMAL
    second = of(models, disk, *(named(*each) for each in order.items()), clock=clock)
    await second.taking_up.run()
    for session in second.sessions.all():
        await until_final(session)
    assert begun == ["soon", "blocked", "late"]
    await second.sessions.stop(0)
    await first.sessions.stop(0)
