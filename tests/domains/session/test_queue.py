"""Device queues: order, bounds, what never starts."""

from __future__ import annotations

import asyncio

import pytest

from domains.at_work import AtWork, at_work
from domains.clients import STRANGER, Caller, Role, caller, calling
from domains.errors import Reason
from domains.session.core.order import TurnOrder
from domains.session.core.places import Place, Places
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import QueueFull
from domains.session.types import Priority, SessionState, WorkOptions
from tests.clocks import SteeredTime
from tests.domains.session.conftest import finish, submit
from tests.domains.sessions import until_final


class Device:
    """Work that runs until it is let go, and remembers the order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.release = asyncio.Event()
        self.started = asyncio.Event()

    async def work(self, session: Session) -> None:
        session.start(lambda: None)
        self.order.append(session.session_id)
        self.started.set()
        await self.release.wait()
        finish(session)


async def test_one_session_runs_at_a_time_in_order_of_arrival(sessions: Sessions) -> None:
    device = Device()
    opened = [submit(sessions, device.work) for _ in range(3)]
    await device.started.wait()

    assert device.order == [opened[0].session_id]
    assert [session.queue_position for session in opened] == [0, 1, 2]

    device.release.set()
    await _all_final(opened)
    assert device.order == [session.session_id for session in opened]


async def test_priority_goes_first_and_work_that_cannot_pause_runs_on(
    sessions: Sessions,
) -> None:
    device = Device()
    first = submit(sessions, device.work)
    await device.started.wait()
    low = submit(sessions, device.work, WorkOptions(priority=Priority.LOW))
    high = submit(sessions, device.work, WorkOptions(priority=Priority.HIGH))

    assert (high.queue_position, low.queue_position) == (1, 2)
    device.release.set()
    await _all_final([first, low, high])
    assert device.order == [session.session_id for session in (first, high, low)]


async def test_a_turn_knows_its_session_and_nothing_of_the_call_that_began_the_queue(
    sessions: Sessions,
) -> None:
    seen: list[tuple[str, Caller, AtWork | None]] = []

    async def work(session: Session) -> None:
        session.start(lambda: None)
        seen.append((session.session_id, caller(), at_work()))
        finish(session)

    with calling(Caller("anna", Role.ADMIN)):
        opened = [submit(sessions, work)]
    opened.append(submit(sessions, work))
    await _all_final(opened)

    assert seen == [
        (each.session_id, STRANGER, AtWork(each.session_id, each.owner)) for each in opened
    ]
    assert at_work() is None


async def test_devices_do_not_wait_for_each_other(sessions: Sessions) -> None:
    one, two = Device(), Device()
    submit(sessions, one.work, device_id="cpu:0")
    submit(sessions, two.work, device_id="cuda:0")

    async with asyncio.timeout(30):
        await one.started.wait()
        await two.started.wait()
    one.release.set()
    two.release.set()


async def test_a_full_queue_refuses_and_keeps_nothing(sessions: Sessions) -> None:
    device = Device()
    opened = [submit(sessions, device.work)]
    await device.started.wait()
    opened += [submit(sessions, device.work) for _ in range(3)]

    with pytest.raises(QueueFull) as refusal:
        submit(sessions, device.work)

    assert refusal.value.retry_after
    assert len(opened) == 4
    device.release.set()
    await _all_final(opened)
    submit(sessions, device.work)  # there is room again


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("private"), asyncio.CancelledError("private")], ids=type
)
async def test_work_that_raises_ends_its_session_and_the_next_one_runs(
    sessions: Sessions, error: BaseException
) -> None:
    """A defect costs one session and never the device."""

    async def broken(session: Session) -> None:
        raise error

    device = Device()
    device.release.set()
    first, second = submit(sessions, broken), submit(sessions, device.work)
    await _all_final([first, second])

    assert first.failure is not None
    assert first.failure.reason is Reason.INTERNAL
    assert first.failure.incident_id
    assert "private" not in first.failure.message
    assert second.state is SessionState.COMPLETED
    assert sessions.queue("cpu:0").running is None


async def test_a_session_cancelled_while_it_waits_never_starts(sessions: Sessions) -> None:
    device = Device()
    first = submit(sessions, device.work)
    await device.started.wait()
    second = submit(sessions, device.work)
    third = submit(sessions, device.work)

    assert second.request_cancel(Reason.CANCELLED_BY_CLIENT)
    assert second.state is SessionState.CANCELLED

    device.release.set()
    await _all_final([first, third])
    assert second.session_id not in device.order
    assert len(device.order) == 2
    assert [first.state, third.state] == [SessionState.COMPLETED] * 2


async def test_a_session_whose_time_is_over_never_starts(
    sessions: Sessions, clock: SteeredTime
) -> None:
    device = Device()
    first = submit(sessions, device.work)
    await device.started.wait()
    late = submit(sessions, device.work, WorkOptions(queue_timeout_seconds=10))

    clock.move(11)
    sessions.queue("cpu:0").expire()

    assert late.state is SessionState.FAILED
    assert late.failure is not None
    assert late.failure.reason is Reason.DEADLINE_EXPIRED
    assert late.failure.metadata["timeout_seconds"] == "10"
    assert late.failure.metadata["timeout"] == "queue"
    assert "never started" in late.failure.message
    device.release.set()
    await _all_final([first])
    assert device.order == [first.session_id]


async def test_clients_take_turns(roomy: Sessions) -> None:
    """However many one has sent before the others came."""
    device = Device()
    sent = [submit(roomy, device.work, owner="a") for _ in range(4)]
    await device.started.wait()
    one = submit(roomy, device.work, owner="b")
    two = submit(roomy, device.work, owner="c")

    assert [session.queue_position for session in (one, two, *sent[1:])] == [1, 2, 3, 4, 5]
    device.release.set()
    await _all_final([*sent, one, two])
    names = {session.session_id: session.owner for session in roomy.all()}
    assert [names[session_id] for session_id in device.order] == list("abcaaa")


async def test_turns_are_taken_among_equals_only(roomy: Sessions) -> None:
    device = Device()
    first = submit(roomy, device.work, owner="a")
    await device.started.wait()
    low = submit(roomy, device.work, WorkOptions(priority=Priority.LOW), owner="b")
    mine = [submit(roomy, device.work, owner="a") for _ in range(2)]
    device.release.set()
    await _all_final([first, low, *mine])
    assert device.order == [session.session_id for session in (first, *mine, low)]


async def test_who_came_late_is_not_overtaken_again_and_again(roomy: Sessions) -> None:
    """A client whose queue never empties gets one turn for one of the other's."""
    order: list[str] = []
    sent: list[Session] = []

    async def again(session: Session) -> None:
        session.start(lambda: None)
        order.append(session.owner)
        if session.owner == "a" and len(sent) < 12:
            sent.extend(submit(roomy, again, owner="a") for _ in range(2))
        finish(session)

    sent += [submit(roomy, again, owner="a"), submit(roomy, again, owner="b")]
    sent += [submit(roomy, again, owner="b")]
    waiting = list(sent)
    while waiting:
        await _all_final(waiting)
        waiting = [session for session in sent if not session.state.final]
    assert order[:4] == list("abab")


async def test_one_client_that_fills_the_queue_keeps_nobody_out(sessions: Sessions) -> None:
    """The queue of these tests has three places."""
    device = Device()
    opened = [submit(sessions, device.work, owner="a")]
    await device.started.wait()
    opened += [submit(sessions, device.work, owner="a") for _ in range(3)]
    opened += [submit(sessions, device.work, owner=client) for client in "bc"]

    for client, places in (("a", "1"), ("b", "1"), ("d", "1")):
        with pytest.raises(QueueFull) as refusal:
            submit(sessions, device.work, owner=client)
        assert refusal.value.metadata["queue_length"] == places
    device.release.set()
    await _all_final(opened)
    assert submit(sessions, device.work, owner="a")


async def _all_final(sessions: list[Session]) -> None:
    for session in sessions:
        await until_final(session)


async def test_a_queue_whose_runner_fails_goes_on(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.loops._PAUSE_SECONDS", 0)
    begin, failed = TurnOrder.begin, asyncio.Event()

    def fail_once(order: TurnOrder, place: Place, places: Places) -> None:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        begin(order, place, places)

    monkeypatch.setattr(TurnOrder, "begin", fail_once)
    device = Device()
    session = submit(sessions, device.work)
    async with asyncio.timeout(30):
        await device.started.wait()
    assert failed.is_set()
    assert session.state is SessionState.RUNNING
    device.release.set()
    await _all_final([session])


async def test_nobody_waits_for_ever(roomy: Sessions, clock: SteeredTime) -> None:
    """Neither for more urgent work that never ends, nor for what others have waited in vain."""
    device = Device()
    submit(roomy, device.work, owner="a")
    await device.started.wait()
    urgent = WorkOptions(priority=Priority.HIGH)
    low = [
        submit(roomy, device.work, WorkOptions(priority=Priority.LOW), owner="b")
        for _ in range(2)
    ]
    clock.move(599)
    before = submit(roomy, device.work, urgent, owner="a")
    assert [s.queue_position for s in (before, *low)] == [1, 2, 3]
    clock.move(1)
    roomy.queue("cpu:0").expire()
    later = submit(roomy, device.work, urgent, owner="a")
    # One of those that waited takes turns with the urgent ones; waiting in numbers is no help.
    assert [s.queue_position for s in (low[0], before, later, low[1])] == [1, 2, 3, 4]
    device.release.set()
    await _all_final([*low, before, later])
