"""Choosing devices over fakes of probe and workers; sessions, queues and speeds are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from domains.clock import Clock
from domains.device.core.inventory import DeviceInventory
from domains.device.core.placement import Placer, check_placement
from domains.device.errors import DeviceNotFound, NoDeviceMatches, NoDeviceReady
from domains.device.types import (
    ANY_DEVICE,
    DeviceChoice,
    DeviceFigures,
    DeviceKind,
    DeviceState,
    LoadedComponent,
    NamedDevice,
    Placement,
)
from domains.errors import DomainError, Reason
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.speeds import Effort
from domains.session.errors import DeviceOutOfUse, WorkerLost
from domains.session.types import (
    Phase,
    PhaseStarted,
    Priority,
    SessionKind,
    SessionState,
    WorkOptions,
)
from domains.values import ByteFigure, PlacementDecision, PlacementReason
from server.errors import describe_failure
from tests.domains.sessions import changes_of, until_final
from tests.fakes.device import FakeProbe, FakeWorkers, card, unusable
from tests.fakes.device_runs import MOMENT, FakeRuns

DRAW = Effort("emoji", "exact", 100, {Phase.DENOISING: 10.0})
CARDS = DeviceChoice(kinds=(DeviceKind.CUDA,))
OUT_OF_USE = DeviceOutOfUse("cuda:0", "It died.", 900.0, quarantined=True)
NOTHING_KNOWN = ByteFigure.unknown("a fake")


async def _prepare() -> SessionPlan:
    raise NotImplementedError


@dataclass
class Machine:
    """Two cards and the processor, and work that runs until it is let go."""

    sessions: Sessions
    probe: FakeProbe = field(default_factory=lambda: FakeProbe(card(0), card(1)))
    default: str = ""
    speeds: dict[str, float] = field(default_factory=dict)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    ran: list[str] = field(default_factory=list)
    lose: DomainError | None = None
    """What the first turn on the first card ends with."""
    losing: asyncio.Event = field(default_factory=asyncio.Event)
    """When it does."""
    becomes: DeviceState | None = None
    """How the card is by then, if it is not as before."""

    def __post_init__(self) -> None:
        self.workers = FakeWorkers()
        self.runs = FakeRuns(self.workers)
        self.inventory = DeviceInventory(self.probe, self.workers, default_device=self.default)
        self.placer = Placer(self.inventory, self.runs, self.sessions, tflops=self.speeds.get)

    async def place(self, placement: Placement = ANY_DEVICE) -> PlacementDecision:
        return (await self.placer.place(placement, DRAW)).decision

    async def begin(
        self,
        placement: Placement = ANY_DEVICE,
        effort: Effort = DRAW,
        *,
        high: bool = False,
        repeats: bool = True,
    ) -> Session:
        """Open a session as a domain does."""
        options = WorkOptions(priority=Priority.HIGH if high else Priority.NORMAL)
        placed = await self.placer.place(placement, effort, options.priority)

        async def turn(session: Session) -> None:
            session.start(lambda: None)
            if self.lose is not None and session.device_id == "cuda:0":
                await self.losing.wait()
                lost, self.lose = self.lose, None
                if self.becomes is not None:
                    self.runs.change(session.device_id, self.becomes, "it failed")
                raise lost
            await self.release.wait()
            self.ran.append(session.device_id)
            session.complete()

        async def work(session: Session) -> None:
            raise NotImplementedError

        plan = SessionPlan(
            SessionKind.GENERATION,
            placed.decision.device_id,
            (),
            work,
            model_id=effort.model_id,
            placed=placed,
        )
        again = begun_anew(_prepare) if repeats else None
        return self.sessions.open(
            plan, turn, SessionRequest(options, b"", _prepare, again=again)
        )

    def holds(self, device_id: str, model_id: str) -> None:
        """The model lies on that device."""
        part = LoadedComponent(model_id, "unet", NOTHING_KNOWN, None, MOMENT)
        unknown = [NOTHING_KNOWN] * 7
        self.runs.told[device_id] = DeviceFigures(*unknown, 0, (part,), MOMENT)

    def measured(self, device_id: str, seconds: float, *, load: float = 0.0) -> None:
        """A drawing took so long there."""
        times = {Phase.DENOISING: seconds, Phase.LOADING_MODEL: load}
        self.sessions.speeds.learn(device_id, DRAW, times)


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    """Real sessions, with room for four that wait in each queue."""
    registry = Sessions(
        describe=describe_failure,
        queue_length=4,
        slice_seconds=30.0,
        retention=timedelta(seconds=60),
        kept=100,
        clock=Clock(),
        changes=changes_of(Clock()),
    )
    yield registry
    await registry.stop(0)


@pytest.fixture
def machine(sessions: Sessions) -> Machine:
    return Machine(sessions)


async def _started(session: Session) -> None:
    async with asyncio.timeout(30):
        while session.state is SessionState.QUEUED:
            change = session.log.change()
            if session.state is SessionState.QUEUED:
                await change.wait()


async def refusal(machine: Machine, placement: Placement) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await machine.place(placement)
    return raised.value


async def test_a_named_device_is_kept_whatever_is_better(machine: Machine) -> None:
    for _ in range(2):
        await machine.begin(NamedDevice("CUDA:0"))
    machine.holds("cuda:1", "emoji")

    decision = await machine.place(NamedDevice("cuda"))

    assert decision == PlacementDecision("cuda:0", PlacementReason.NAMED, None, ("cuda:0",))
    assert (await machine.place(NamedDevice("cpu"))).device_id == "cpu:0"


async def test_a_known_device_is_not_kept_waiting_by_discovery(sessions: Sessions) -> None:
    machine = Machine(sessions, FakeProbe(card(0), held=True))

    async with asyncio.timeout(30):
        assert (await machine.place(NamedDevice("cpu:0"))).device_id == "cpu:0"


async def test_a_named_device_that_is_missing_is_an_error(machine: Machine) -> None:
    error = await refusal(machine, NamedDevice("cuda:7"))

    assert isinstance(error, DeviceNotFound)
    assert error.reason is Reason.DEVICE_NOT_FOUND


async def test_nothing_named_goes_to_the_default_and_then_to_the_free_one(
    machine: Machine,
) -> None:
    opened = [await machine.begin() for _ in range(4)]

    assert [session.device_id for session in opened] == ["cuda:0", "cuda:1"] * 2
    assert opened[0].placement == PlacementDecision(
        "cuda:0", PlacementReason.DEFAULT, None, ("cuda:0", "cuda:1")
    )
    assert opened[1].placement.reason is PlacementReason.SHORTEST_WAIT


async def test_the_model_counts_where_it_will_be_when_the_turn_comes(machine: Machine) -> None:
    """What lies there now will be gone when the session before has loaded its own."""
    machine.holds("cuda:1", "emoji")
    assert (await machine.place()).reason is PlacementReason.MODEL_LOADED

    await machine.begin(NamedDevice("cuda:0"), DRAW)
    await machine.begin(NamedDevice("cuda:1"), Effort("style"))
    assert (await machine.place()).device_id == "cuda:0"


async def test_measured_times_count_more_than_sessions(machine: Machine) -> None:
    """Three short ones are done before one long one."""
    for device_id in ("cuda:0", "cuda:1"):
        machine.measured(device_id, 10.0, load=5.0)
    long = Effort("emoji", "exact", 100, {Phase.DENOISING: 100.0})
    short = Effort("emoji", "exact", 100, {Phase.DENOISING: 1.0})
    await machine.begin(NamedDevice("cuda:0"), long)
    for _ in range(3):
        await machine.begin(NamedDevice("cuda:1"), short)

    decision = await machine.place()

    # One load and three short ones, then this one.
    assert (decision.device_id, decision.reason) == ("cuda:1", PlacementReason.SHORTEST_WAIT)
    assert decision.expected_seconds == pytest.approx(5.0 + 3.0 + 10.0)


async def test_work_of_high_priority_does_not_wait_for_the_rest(machine: Machine) -> None:
    for device_id in ("cuda:0", "cuda:1"):
        machine.measured(device_id, 10.0, load=5.0)
    running = await machine.begin(NamedDevice("cuda:0"))
    await _started(running)
    for _ in range(3):
        await machine.begin(NamedDevice("cuda:0"))

    placed = await machine.placer.place(NamedDevice("cuda:0"), DRAW, Priority.HIGH)

    assert placed.decision.expected_seconds == pytest.approx(15.0 + 10.0)


async def test_an_unmeasured_device_is_judged_by_what_both_can_do(sessions: Sessions) -> None:
    machine = Machine(sessions, speeds={"cuda:0": 10.0, "cuda:1": 40.0})
    machine.measured("cuda:0", 20.0, load=1.0)

    decision = await machine.place()

    assert (decision.device_id, decision.reason) == ("cuda:1", PlacementReason.FASTER)
    assert decision.expected_seconds == pytest.approx(1.0 + 5.0)


@pytest.mark.parametrize(
    ("choice", "device_id"),
    [
        (DeviceChoice(kinds=(DeviceKind.CPU,)), "cpu:0"),
        (DeviceChoice(("cpu",)), "cpu:0"),
        (DeviceChoice(("cuda:1", "cpu")), "cuda:1"),
        (DeviceChoice(("cuda:1", "cuda:0"), (DeviceKind.CPU, DeviceKind.CUDA)), "cuda:0"),
        (DeviceChoice(("cuda:1", "cpu:0"), (DeviceKind.CPU,)), "cpu:0"),
        (DeviceChoice(("cuda:1", "cuda:9")), "cuda:1"),
    ],
)
async def test_any_of_some(machine: Machine, choice: DeviceChoice, device_id: str) -> None:
    assert (await machine.place(choice)).device_id == device_id


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        (DeviceChoice(("cuda:7", "xpu:0")), "placement.any.device_ids"),
        (DeviceChoice(("cuda:0",), (DeviceKind.CPU,)), "placement.any.device_ids"),
        (DeviceChoice(kinds=(DeviceKind.XPU,)), "placement.any.kinds"),
    ],
)
async def test_none_of_those_exists(machine: Machine, choice: DeviceChoice, field: str) -> None:
    error = await refusal(machine, choice)

    assert isinstance(error, NoDeviceMatches)
    assert error.reason is Reason.DEVICE_NOT_FOUND
    assert error.metadata["field"] == field


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (DeviceState.QUARANTINED, Reason.DEVICE_QUARANTINED),
        (DeviceState.UNAVAILABLE, Reason.DEVICE_UNAVAILABLE),
    ],
)
async def test_none_of_those_is_ready(
    machine: Machine, state: DeviceState, reason: Reason
) -> None:
    await machine.inventory.discover()
    for device_id in ("cuda:0", "cuda:1"):
        machine.workers.set(device_id, state, "it failed")

    error = await refusal(machine, DeviceChoice(kinds=(DeviceKind.CUDA,)))

    assert isinstance(error, NoDeviceReady)
    assert error.reason is reason
    assert "cuda:1: it failed." in str(error)
    assert error.metadata["field"] == "placement.any"
    # Where the processor is allowed, it takes the work.
    assert await machine.place() == PlacementDecision(
        "cpu:0", PlacementReason.ONLY_ONE, None, ("cpu:0",)
    )


async def test_a_card_that_is_replaced_is_waited_for_rather_than_the_processor_used(
    machine: Machine,
) -> None:
    await machine.inventory.discover()
    machine.workers.set("cuda:0", DeviceState.RECOVERING)
    assert (await machine.place()).device_id == "cuda:1"
    machine.workers.set("cuda:1", DeviceState.QUARANTINED)
    assert (await machine.place()).device_id == "cuda:0"


async def test_a_card_that_cannot_be_used_is_no_candidate(sessions: Sessions) -> None:
    machine = Machine(sessions, FakeProbe(unusable(card(0), "its driver is too old")))
    machine.workers.set("cuda:0", DeviceState.UNAVAILABLE)

    assert (await machine.place()).device_id == "cpu:0"


async def test_a_chosen_default_that_does_not_exist_is_an_error(sessions: Sessions) -> None:
    machine = Machine(sessions, default="cuda:7")

    assert isinstance(await refusal(machine, ANY_DEVICE), DeviceNotFound)
    # A choice says more than the setting.
    assert (await machine.place(DeviceChoice(("cuda:1",)))).device_id == "cuda:1"


async def test_what_waits_for_a_device_that_goes_out_of_use_moves(machine: Machine) -> None:
    running = await machine.begin()
    other = await machine.begin()
    waiting = await machine.begin()
    named = await machine.begin(NamedDevice("cuda:0"))
    await asyncio.gather(_started(running), _started(other))
    assert (running.device_id, waiting.device_id) == ("cuda:0", "cuda:0")

    machine.runs.change("cuda:0", DeviceState.QUARANTINED, "it failed")

    assert waiting.placement.device_id == "cuda:1"
    assert waiting.placement.reason is PlacementReason.ONLY_ONE
    assert waiting.queue_position == 1
    assert (running.device_id, named.device_id) == ("cuda:0", "cuda:0")
    assert named.queue_position == 1
    machine.release.set()
    for session in (running, other, waiting, named):
        await until_final(session)
    assert sorted(machine.ran) == ["cuda:0"] * 2 + ["cuda:1"] * 2


async def test_what_is_paused_while_its_device_goes_out_of_use_moves_when_resumed(
    machine: Machine,
) -> None:
    """Its turn never comes where nothing can be done."""
    running = await machine.begin()
    other = await machine.begin()
    paused = await machine.begin()
    named = await machine.begin(NamedDevice("cuda:0"))
    await asyncio.gather(_started(running), _started(other))
    assert paused.device_id == "cuda:0"
    for session in (paused, named):
        machine.sessions.pause(session, "", "ada")

    machine.runs.change("cuda:0", DeviceState.LOST, "it left")
    assert paused.device_id == "cuda:0"
    for session in (paused, named):
        machine.sessions.resume(session, "ada")

    assert (paused.device_id, named.device_id) == ("cuda:1", "cuda:0")
    assert paused.queue_position == 1
    machine.release.set()
    await until_final(paused)
    assert paused.state is SessionState.COMPLETED


async def test_what_finds_no_other_device_or_no_room_stays(machine: Machine) -> None:
    only = DeviceChoice(("cuda:0", "cuda:1"))
    waiting = [await machine.begin(only) for _ in range(8)]  # both queues are full
    before = [session.device_id for session in waiting]

    machine.runs.change("cuda:0", DeviceState.QUARANTINED, "it failed")
    assert [session.device_id for session in waiting] == before
    machine.runs.change("cuda:1", DeviceState.QUARANTINED, "it failed")
    assert [session.device_id for session in waiting] == before


def test_limits_and_forms_are_checked() -> None:
    assert list(check_placement(ANY_DEVICE, "")) == []
    assert list(check_placement(NamedDevice("gpu"), "")) == []
    full = DeviceChoice(("cuda:0",) * 64, (DeviceKind.CPU,) * 16)
    assert list(check_placement(full, "placement.")) == []
    over = DeviceChoice(("cuda:0",) * 65, (DeviceKind.CPU,) * 17)
    broken = list(check_placement(over, "placement."))
    assert [(one.field, one.reason) for one in broken] == [
        ("placement.any.device_ids", Reason.TOO_MANY_ELEMENTS),
        ("placement.any.kinds", Reason.TOO_MANY_ELEMENTS),
    ]
    named = [
        *check_placement(NamedDevice("../x"), ""),
        *check_placement(DeviceChoice(("cpu", "a b")), ""),
    ]
    assert [(one.field, one.reason) for one in named] == [
        ("device_id", Reason.NAME_INVALID),
        ("any.device_ids[1]", Reason.NAME_INVALID),
    ]


@pytest.mark.parametrize("state", [DeviceState.LOST, DeviceState.QUARANTINED, None])
async def test_work_whose_worker_is_lost_goes_on_elsewhere_where_none_comes(
    machine: Machine, state: DeviceState | None
) -> None:
    """A worker alone is replaced, so its work waits for the next one."""
    gone = state is DeviceState.LOST
    machine.lose = WorkerLost("cuda:0", {}, 1.0, repeats=True, gone=gone)
    machine.becomes = state
    machine.losing.set()
    machine.release.set()

    session = await machine.begin()
    await until_final(session)

    assert session.state is SessionState.COMPLETED
    assert session.retry_count == 1
    assert machine.ran == ["cuda:0" if state is None else "cuda:1"]


async def test_what_waits_for_a_worker_that_does_not_come_goes_elsewhere(
    machine: Machine,
) -> None:
    """Its turn had come, so it does not wait in the queue with those behind it."""
    machine.lose, machine.becomes = OUT_OF_USE, DeviceState.QUARANTINED
    first, _other, behind = [await machine.begin(CARDS) for _ in range(3)]
    await _started(first)
    assert (first.device_id, behind.device_id) == ("cuda:0", "cuda:0")
    machine.losing.set()
    machine.release.set()
    for session in (first, behind):
        await until_final(session)
        assert session.state is SessionState.COMPLETED
        assert session.placement.device_id == "cuda:1"
        assert session.placement.reason is PlacementReason.ONLY_ONE
    assert first.retry_count == 0, "nothing of it was lost"
    assert machine.ran == ["cuda:1"] * 3


@pytest.mark.parametrize("placement", [NamedDevice("cuda:0"), DeviceChoice(("cuda:0",)), CARDS])
async def test_what_waits_for_a_worker_and_may_go_nowhere_else_fails(
    machine: Machine, placement: Placement
) -> None:
    """It named its device, there is no other of those it may use, or that one has no room."""
    await _started(await machine.begin(NamedDevice("cuda:1")))
    for _ in range(4):
        await machine.begin(NamedDevice("cuda:1"))
    machine.lose, machine.becomes = OUT_OF_USE, DeviceState.QUARANTINED
    session = await machine.begin(placement)
    await _started(session)
    assert session.device_id == "cuda:0"
    machine.losing.set()
    await until_final(session)

    assert session.failure is not None
    assert session.failure.reason is Reason.DEVICE_QUARANTINED
    assert machine.sessions.queue("cuda:0").length == 0


@pytest.mark.parametrize(("repeats", "begun"), [(False, False), (True, True), (False, True)])
async def test_what_has_begun_goes_elsewhere_where_it_may_be_repeated(
    machine: Machine, repeats: bool, begun: bool
) -> None:
    """A worker may have had an earlier one of its jobs, as a look at its pictures."""
    machine.lose, machine.becomes = OUT_OF_USE, DeviceState.QUARANTINED
    session = await machine.begin(repeats=repeats)
    await _started(session)
    if begun:
        session.record(PhaseStarted(Phase.CHECKING_SAFETY))
    machine.losing.set()
    machine.release.set()
    await until_final(session)
    completed = session.state is SessionState.COMPLETED
    assert completed is (repeats or not begun)


async def test_what_is_to_pause_while_its_device_goes_out_of_use_moves_when_resumed(
    machine: Machine,
) -> None:
    machine.lose, machine.becomes = OUT_OF_USE, DeviceState.QUARANTINED
    session = await machine.begin()
    await _started(session)
    machine.sessions.pause(session, "", "ada")
    assert session.state is SessionState.PAUSING
    machine.losing.set()
    machine.release.set()
    async with asyncio.timeout(30):
        while session.state is not SessionState.PAUSED:
            await session.log.change().wait()
    machine.sessions.resume(session, "ada")
    await until_final(session)
    assert session.state is SessionState.COMPLETED
    assert machine.ran == ["cuda:1"]
