"""Sessions of an earlier server that had not ended, and work whose worker was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from domains.errors import NotFound, Reason, ResourceExhausted, Unavailable
from domains.session.core.about import Parent
from domains.session.core.plan import Decided, SessionPlan, SessionRequest, Work
from domains.session.core.session import Session
from domains.session.core.taking_up import PATIENCE_SECONDS, RETURN_SECONDS
from domains.session.errors import Restarted, ShuttingDown, WorkerLost
from domains.session.records import KeptMessage
from domains.session.turns import Retried
from domains.session.types import OnDisconnect, Phase, PhaseStarted, SessionState, WorkOptions
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, collect, nothing, picture, plan, until_started
from tests.domains.session.servers import Disk, Server
from tests.domains.session.test_keeping import REQUEST_ID
from tests.domains.sessions import until_final

DETACHED = WorkOptions(on_disconnect=OnDisconnect.DETACH)
NAMED = WorkOptions(request_id=REQUEST_ID)


Kept = list[Decided]


def repeatable(
    work: Work,
    options: WorkOptions = DETACHED,
    *,
    name: bytes = b"1",
    seeds: Kept | None = None,
) -> SessionRequest:
    """A request that can be begun anew; `seeds` are what was decided when it was."""

    async def again(decided: Decided) -> SessionPlan:
        if seeds is not None:
            seeds.append(decided)
        return replace(plan(work=work), pause=lambda session: None)

    return replace(
        asked(work, options, digest=name),
        prepare=lambda: again(Decided((1, 2))),
        again=again,
        message=KeptMessage("request", name),
    )


async def endless(session: Session) -> None:
    session.record(PhaseStarted(Phase.ENCODING_TEXT))
    await asyncio.Event().wait()


async def not_begun(session: Session) -> None:
    """Its turn has come, and its worker has not."""
    await asyncio.Event().wait()


async def drawn(session: Session) -> None:
    """The pictures that are not there yet."""
    for index in range(len(session.images), 2):
        session.finish_image(picture(index))


async def taken_up(server: Server, session: Session) -> Session:
    """What has become of another server's session in this one."""
    await server.taking_up.run()
    return server.sessions.get(session.session_id)


async def test_what_waited_and_what_ran_go_on_with_the_seeds_they_had(
    servers: Callable[[], Server],
) -> None:
    first, second = servers(), None
    ran = await first.runner.begin(repeatable(endless))
    waited = await first.runner.begin(repeatable(endless, name=b"2"))
    await until_started(ran)
    seeds: Kept = []
    second = servers()
    second.anew = {name: repeatable(drawn, name=name, seeds=seeds) for name in (b"1", b"2")}
    for each in (ran, waited):
        kept = second.sessions.get(each.session_id)
        assert kept.state is SessionState.QUEUED
    for each, retries in ((ran, 1), (waited, 0)):
        again = await taken_up(second, each)
        await until_final(again)
        assert again.state is SessionState.COMPLETED
        assert again.retry_count == retries
        assert len(again.images) == 2
    assert seeds == [Decided((1, 2), "model")] * 2
    third = servers()
    assert not third.sessions.unfinished
    assert third.sessions.get(ran.session_id).state is SessionState.COMPLETED


async def test_nothing_is_kept_of_the_request_of_what_has_ended(
    servers: Callable[[], Server], disk: Disk
) -> None:
    server = servers()
    session = await server.runner.begin(repeatable(drawn))
    assert len(disk.requests.records) == 1
    await until_final(session)
    assert disk.requests.records == {}
    disk.requests.records["nobody's"] = b""
    servers()
    assert disk.requests.records == {}


async def test_what_was_at_work_when_two_servers_ended_has_failed(
    servers: Callable[[], Server],
) -> None:
    session = await servers().runner.begin(repeatable(endless))
    await until_started(session)
    second = servers()
    second.anew = {b"1": repeatable(endless)}
    await until_started(await taken_up(second, session))
    third = servers()
    third.anew = {b"1": repeatable(drawn)}
    lost = await taken_up(third, session)
    assert lost.failure is not None
    assert lost.failure.reason is Reason.SERVER_RESTARTED
    assert "2 times" in lost.failure.message


async def test_deaths_before_work_has_begun_are_not_its_fault(
    servers: Callable[[], Server],
) -> None:
    server = servers()
    session = await server.runner.begin(repeatable(not_begun))
    await until_started(session)
    for _ in range(3):
        server = servers()
        server.anew = {b"1": repeatable(not_begun)}
        again = await taken_up(server, session)
        await until_started(again)
        assert (again.state, again.retry_count) == (SessionState.RUNNING, 0)
    last = servers()
    last.anew = {b"1": repeatable(drawn)}
    again = await taken_up(last, session)
    await until_final(again)
    assert again.state is SessionState.COMPLETED


async def test_no_number_is_given_out_again_by_a_server_of_a_moment(
    servers: Callable[[], Server],
) -> None:
    first = servers()
    await first.runner.begin(repeatable(endless))
    waiting = await first.runner.begin(repeatable(endless, name=b"2"))
    numbers = [waiting.log.last_sequence]
    for _ in range(2):
        server = servers()
        server.anew = {name: repeatable(endless, name=name) for name in (b"1", b"2")}
        await server.sessions.recalled()
        again = await taken_up(server, waiting)
        again.note_retry(Restarted().failure())  # somebody sees it; the server ends
        numbers.append(again.log.last_sequence)
    assert numbers == sorted(set(numbers))


async def test_what_cannot_be_begun_anew_for_its_request_is_unreadable_has_failed(
    servers: Callable[[], Server], disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    first = servers()
    ended = await first.runner.begin(repeatable(drawn))
    await until_final(ended)
    waiting = await first.runner.begin(repeatable(endless, name=b"2"))
    for session in (ended, waiting):
        disk.requests.records[session.session_id] = b"nonsense"
    again = servers().sessions
    assert again.get(ended.session_id).state is SessionState.COMPLETED
    lost = again.get(waiting.session_id).failure
    assert lost is not None
    assert lost.reason is Reason.SERVER_RESTARTED
    assert "cannot be read" in caplog.text
    assert not disk.requests.records


async def test_what_was_paused_stays_so_and_goes_on_after_its_pictures(
    servers: Callable[[], Server],
) -> None:
    first = servers()
    blocked = await first.runner.begin(repeatable(endless))
    session = await first.runner.begin(repeatable(endless, name=b"2"))
    await until_started(blocked)
    session.finish_image(picture(0))
    first.sessions.pause(session, "lunch", "ada")
    for keeps, images in ((True, 1), (False, 0)):
        server = servers()
        request = repeatable(drawn, name=b"2")
        assert request.again is not None
        resumed = await request.again(Decided())
        whole = replace(resumed, resumes_after_images=keeps)

        async def again(decided: Decided, whole: SessionPlan = whole) -> SessionPlan:
            return whole

        server.anew = {b"1": repeatable(drawn), b"2": replace(request, again=again)}
        found = await taken_up(server, session)
        assert found.state is SessionState.PAUSED
        assert len(found.images) == images
    server.sessions.resume(found, "ada")
    await until_final(found)
    assert [image.image_index for image in found.images] == [0, 1]


async def test_what_ends_with_its_stream_waits_for_one(
    servers: Callable[[], Server], clock: SteeredTime
) -> None:
    first = servers()
    named = await first.runner.begin(repeatable(endless, NAMED))
    nameless = await first.runner.begin(repeatable(endless, WorkOptions(), name=b"2"))
    second = servers()
    second.anew = {b"1": repeatable(drawn, NAMED), b"2": repeatable(drawn, name=b"2")}
    lost = await taken_up(second, nameless)
    assert lost.failure is not None
    assert lost.failure.reason is Reason.SERVER_RESTARTED
    waiting = second.sessions.get(named.session_id)
    await asyncio.sleep(0.01)
    assert waiting.state is SessionState.QUEUED
    events = second.runner.run(repeatable(drawn, NAMED))
    assert (await anext(events)).session_id == named.session_id
    await second.taking_up.run()
    await until_final(waiting)
    assert waiting.state is SessionState.COMPLETED
    await events.aclose()


async def test_a_stream_that_does_not_come_back_ends_it(
    servers: Callable[[], Server], clock: SteeredTime
) -> None:
    session = await servers().runner.begin(repeatable(endless, NAMED))
    second = servers()
    second.anew = {b"1": repeatable(drawn, NAMED)}
    waiting = await taken_up(second, session)
    clock.move(RETURN_SECONDS)
    await second.taking_up.run()
    assert waiting.state is SessionState.CANCELLED
    assert waiting.cancel_reason is Reason.CLIENT_DISCONNECTED
    assert servers().sessions.get(session.session_id).state is SessionState.CANCELLED


async def test_what_cannot_be_resolved_any_more_fails_with_the_reason(
    servers: Callable[[], Server],
) -> None:
    session = await servers().runner.begin(repeatable(endless))
    second = servers()
    second.anew = {b"1": NotFound("No such model.", reason=Reason.MODEL_NOT_FOUND)}
    failed = await taken_up(second, session)
    assert failed.failure is not None
    assert "No such model" in failed.failure.message


async def test_a_device_that_is_still_looked_for_is_waited_for_and_the_order_kept(
    servers: Callable[[], Server], clock: SteeredTime
) -> None:
    first = servers()
    session = await first.runner.begin(repeatable(endless))
    other = await first.runner.begin(repeatable(endless, name=b"2"))
    second = servers()
    missing = Unavailable("Not yet.", reason=Reason.DEVICE_UNAVAILABLE)
    second.anew = {b"1": missing, b"2": repeatable(drawn, name=b"2")}
    assert (await taken_up(second, session)).state is SessionState.QUEUED
    assert [each for each, _ in second.sessions.unfinished] == [
        second.sessions.get(each.session_id) for each in (session, other)
    ]
    clock.move(PATIENCE_SECONDS)
    assert (await taken_up(second, session)).failure is not None
    await until_final(second.sessions.get(other.session_id))


async def test_one_that_is_cancelled_before_it_is_taken_up_stays_so(
    servers: Callable[[], Server],
) -> None:
    session = await servers().runner.begin(repeatable(endless))
    second = servers()
    second.sessions.get(session.session_id).request_cancel(Reason.CANCELLED_BY_CLIENT)
    second.anew = {b"1": repeatable(drawn)}
    assert (await taken_up(second, session)).state is SessionState.CANCELLED
    assert servers().sessions.get(session.session_id).state is SessionState.CANCELLED


async def test_a_server_that_is_stopped_leaves_what_is_detached_to_the_next(
    servers: Callable[[], Server],
) -> None:
    first = servers()
    ran = await first.runner.begin(repeatable(endless))
    waited = await first.runner.begin(repeatable(endless, name=b"2"))
    hanging = await first.runner.begin(repeatable(endless, NAMED, name=b"3"))
    await until_started(ran)
    reading = asyncio.ensure_future(collect(first.reader.events(ran)))
    await first.sessions.stop(0)
    with pytest.raises(ShuttingDown):
        await reading
    assert hanging.state is SessionState.CANCELLED
    second = servers()
    second.anew = {name: repeatable(drawn, name=name) for name in (b"1", b"2")}
    for each in (ran, waited):
        again = await taken_up(second, each)
        await until_final(again)
        assert again.state is SessionState.COMPLETED
        assert again.retry_count == 0  # nothing was lost by it


def lost(*, repeats: bool = True) -> WorkerLost:
    return WorkerLost("cpu:0", {"signal": "SIGKILL"}, 1.0, repeats=repeats)


async def test_work_whose_worker_was_lost_is_done_once_more(
    servers: Callable[[], Server],
) -> None:
    turns: list[int] = []

    async def work(session: Session) -> None:
        session.record(PhaseStarted(Phase.ENCODING_TEXT))
        turns.append(session.lost_turns)
        if len(turns) == 1:
            session.finish_image(picture(0))
            raise lost()
        await drawn(session)

    server = servers()
    session = await server.runner.begin(repeatable(work))
    await until_final(session)
    assert session.state is SessionState.COMPLETED
    assert turns == [1, 2]
    (told,) = [entry for entry in session.log.entries() if isinstance(entry, Retried)]
    assert told.retry_count == 1
    assert len(session.images) == 2


@pytest.mark.parametrize(
    ("repeats", "anew", "turns"), [(True, True, 2), (False, True, 1), (True, False, 1)]
)
async def test_what_is_lost_again_or_may_not_be_repeated_fails(
    servers: Callable[[], Server], repeats: bool, anew: bool, turns: int
) -> None:
    done = 0

    async def work(session: Session) -> None:
        nonlocal done
        done += 1
        raise lost(repeats=repeats)

    request = repeatable(work)
    if not anew:
        request = replace(request, again=None, message=None)
    session = await servers().runner.begin(request)
    await until_final(session)
    assert session.state is SessionState.FAILED
    assert done == turns


async def test_a_lost_worker_does_not_undo_a_pause_or_a_cancellation(
    servers: Callable[[], Server],
) -> None:
    async def work(session: Session) -> None:
        await go.wait()
        raise lost()

    for ask, state in (
        (lambda one: one.request_pause(), SessionState.PAUSED),
        (lambda one: one.request_cancel(Reason.CANCELLED_BY_CLIENT), SessionState.CANCELLED),
    ):
        go = asyncio.Event()
        request = replace(repeatable(work), message=None)
        server = servers()
        session = await server.runner.begin(request)
        await until_started(session)
        ask(session)
        go.set()
        async with asyncio.timeout(30):
            while session.state is not state and not session.state.final:
                await session.log.change().wait()
        assert session.state is state


async def test_sessions_on_no_device_begin_at_once_and_have_children(
    servers: Callable[[], Server],
) -> None:
    server = servers()

    async def parent(session: Session) -> None:
        request = asked(nothing)
        child = await server.runner.begin(
            replace(request, parent=Parent(session.session_id, "step"), owner="ada")
        )
        await child.over()

    def request(work: Work) -> SessionRequest:
        async def prepare() -> SessionPlan:
            return replace(plan(device_id="", work=work))

        return replace(asked(work), prepare=prepare)

    blocked = [await server.runner.begin(request(endless)) for _ in range(5)]
    for each in blocked:
        await until_started(each)
    session = await server.runner.begin(request(parent))
    await until_final(session)
    assert session.state is SessionState.COMPLETED
    (child,) = server.sessions.children(session.session_id)
    assert (child.about.parent.item_id, child.owner) == ("step", "ada")
    kept = servers().sessions.children(session.session_id)
    assert [each.about.parent for each in kept] == [child.about.parent]
    server.sessions.forget(child)
    assert server.sessions.children(session.session_id) == []


async def test_others_have_their_turns_while_hundreds_are_taken_up(
    disk: Disk, clock: SteeredTime
) -> None:
    first = Server(disk, clock, queue_length=400)
    accepted = [await first.runner.begin(repeatable(endless)) for _ in range(300)]
    second = Server(disk, clock, queue_length=400)
    second.anew = {b"1": repeatable(endless)}
    left: list[int] = []

    async def others() -> None:
        while second.sessions.unfinished:
            left.append(len(second.sessions.unfinished))
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await second.taking_up.run()
    await beside
    assert len(set(left)) >= 4  # at the start, and after each 64
    queue = second.sessions.queue(accepted[0].device_id)
    async with asyncio.timeout(30):
        await until_started(second.sessions.get(accepted[0].session_id))
    assert [each.session_id for each in queue.waiting()] == [
        each.session_id for each in accepted[1:]
    ]
    for server in (second, first):
        await server.sessions.stop(0)


@pytest.mark.parametrize("owner", ["", "bob"])
async def test_what_was_accepted_is_taken_up_whatever_room_there_is(
    owner: str, clock: SteeredTime
) -> None:
    """What ran held no place of its queue, and others had come when there was room for all."""
    disk = Disk()
    first = Server(disk, clock, 4)
    names = [b"%d" % number for number in range(5)]
    asked = [repeatable(endless, name=name) for name in names]
    if owner:
        asked[0] = replace(asked[0], owner=owner)
    begun = [await first.runner.begin(asked[0])]
    await until_started(begun[0])
    begun += [await first.runner.begin(each) for each in asked[1:]]

    second = Server(disk, clock, 4)
    second.anew = {name: repeatable(endless, name=name) for name in names}
    await second.taking_up.run()

    found = [second.sessions.get(each.session_id) for each in begun]
    assert not any(each.state.final for each in found)
    with pytest.raises(ResourceExhausted):
        await second.runner.begin(repeatable(endless, name=b"more"))
    for server in (first, second):
        await server.sessions.stop(0)
