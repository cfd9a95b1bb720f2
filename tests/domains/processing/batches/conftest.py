"""Batches whose items are work in this process, on records in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from msgspec import structs

from domains.clients import Caller, caller
from domains.device.types import Device, DeviceChoice, DeviceKind, DeviceReport, DeviceState
from domains.errors import (
    DataLoss,
    DomainError,
    FieldViolation,
    InvalidArgument,
    Reason,
    ResourceExhausted,
)
from domains.processing.batches.core.batches import Batches
from domains.processing.batches.core.control import BatchControl
from domains.processing.batches.core.run import Means
from domains.processing.batches.core.shelf import Shelf
from domains.processing.batches.ports import BatchNames
from domains.processing.batches.types import ItemWork, Settled
from domains.processing.core.control import SessionControl
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.jobs import WorkPaused
from domains.session.types import (
    ImageResult,
    ItemFinished,
    Outcome,
    Phase,
    Priority,
    SessionKind,
    SessionState,
    WorkOptions,
)
from domains.session.types.named import NOTHING_NAMED, Named
from domains.values import ByteFigure
from server.errors import describe_failure
from tests.clocks import SteeredTime
from tests.domains.session.conftest import picture, registry
from tests.domains.sessions import Artifacts

CPU = Device("cpu:0", DeviceKind.CPU, "A processor", "", "cpu", ByteFigure.unknown("unasked"))


class Disk:
    """Records in memory, which outlive the servers of a test."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.refusal: DomainError | None = None
        self.written = 0

    def found(self) -> Mapping[str, bytes]:
        return dict(self.records)

    async def accept(self, key: str, body: bytes) -> None:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self._write(key, body)

    def put(self, key: str, body: bytes) -> Future[None]:
        self._write(key, body)
        return _done()

    def remove(self, key: str) -> Future[None]:
        self.records.pop(key, None)
        return _done()

    def _write(self, key: str, body: bytes) -> None:
        self.records[key] = body
        self.written += 1


def _done() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done


class Devices:
    """One processor."""

    async def matching(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        return self.selected(choice)

    def selected(self, choice: DeviceChoice) -> tuple[DeviceReport, ...]:
        return (DeviceReport(CPU, DeviceState.READY),)


def _does(work: ItemWork) -> str:
    return (work.overlay or b"").decode().partition("@")[0]


def _named_in(text: bytes | None) -> Named:
    name = (text or b"").decode().partition("@")[2]
    return Named(frozenset({name})) if name else NOTHING_NAMED


@dataclass
class Craft:
    """What items do. An overlay is `fail:N` for one that fails N times, `slow` for one that
    ends when `gate` is set, `wrong` for one that is refused, anything else works at once. What
    stands behind `@` is an artifact that it names."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)
    refusal: DomainError | None = None
    fitting: int | DomainError | None = None
    callers: set[Caller] = field(default_factory=set)
    """In whose name items were prepared."""

    def __call__(self, request: bytes) -> Craft:
        return self

    def combinations(self) -> Sequence[ItemWork]:
        return ()

    async def check(self, works: Sequence[ItemWork]) -> Sequence[Settled]:
        await asyncio.sleep(0)
        InvalidArgument.check(
            *(
                FieldViolation(f"{work.path}.overlay", Reason.FIELD_OUT_OF_RANGE, "Is wrong.")
                for work in works
                if _does(work) == "wrong"
            )
        )
        return [Settled((7,), "model") for _ in works]

    def request(self, work: ItemWork, settled: Settled, priority: Priority) -> SessionRequest:
        if self.refusal is not None:
            raise self.refusal
        kind, _, count = _does(work).partition(":")

        async def draw(session: Session) -> Outcome:
            self.begun.append(work.item_id)
            while kind == "slow" and not self.gate.is_set():
                if session.state is SessionState.PAUSING:
                    raise WorkPaused
                await asyncio.sleep(0.001)
            if kind == "fail" and self.begun.count(work.item_id) <= int(count):
                raise DataLoss("It failed.", reason=Reason.DATA_CORRUPTED)
            session.finish_image(picture())
            return Outcome()

        async def prepare() -> SessionPlan:
            self.callers.add(caller())
            return SessionPlan(
                kind=SessionKind.GENERATION,
                device_id="cpu:0",
                expected_phases=(Phase.DENOISING,),
                work=draw,
                pause=lambda session: None,
            )

        return SessionRequest(WorkOptions(priority=priority), b"", prepare)

    async def at_once(
        self, work: ItemWork, settled: Settled, device_ids: Sequence[str]
    ) -> int | None:
        assert list(device_ids) == ["cpu:0"]
        if isinstance(self.fitting, DomainError):
            raise self.fitting
        return self.fitting

    def together(
        self, works: Sequence[tuple[ItemWork, Settled]], priority: Priority
    ) -> SessionRequest:
        """One after another; `oom:N` fails for want of memory among more than N."""
        if self.refusal is not None:
            raise self.refusal
        self.groups.append([work.item_id for work, _ in works])
        done: set[str] = set()

        async def draw(session: Session) -> Outcome:
            for at, (work, _) in enumerate(works):
                kind, _, count = (work.overlay or b"").decode().partition(":")
                while kind == "slow" and not self.gate.is_set():
                    if session.state is SessionState.PAUSING:
                        raise WorkPaused
                    await asyncio.sleep(0.001)
                if work.item_id in done:
                    continue
                done.add(work.item_id)
                failure = None
                images: tuple[ImageResult, ...] = ()
                if kind == "oom" and len(works) > int(count):
                    failure = ResourceExhausted(
                        "No room.", reason=Reason.DEVICE_OUT_OF_MEMORY
                    ).failure()
                else:
                    images = (structs.replace(picture(at), item_id=work.item_id),)
                ended = ItemFinished(work.item_id, len(done), 0, len(works), images, failure)
                session.finish_item(ended)
            return Outcome()

        async def prepare() -> SessionPlan:
            self.callers.add(caller())
            return SessionPlan(
                kind=SessionKind.GENERATION_BATCH,
                device_id="cpu:0",
                expected_phases=(Phase.DENOISING,),
                work=draw,
                pause=lambda session: None,
            )

        return SessionRequest(WorkOptions(priority=priority), b"", prepare)


@dataclass
class Place:
    """A server's batches."""

    sessions: Sessions
    runner: SessionRunner
    reader: SessionReader
    batches: Batches
    control: BatchControl
    craft: Craft
    disks: tuple[Disk, Disk]


def place(
    clock: SteeredTime,
    sessions: Sessions | None = None,
    disks: tuple[Disk, Disk] | None = None,
) -> Place:
    """Batches on disks of their own, or on those of an earlier server."""
    disks = disks or (Disk(), Disk())
    sessions = sessions or registry(clock, 300, kept=1_000)
    reader = SessionReader(Artifacts(), heartbeat_seconds=5, clock=clock.clock)
    runner = SessionRunner(sessions, reader)
    means = Means(sessions, runner, Devices(), Shelf(*disks), describe_failure, clock.clock)
    craft = Craft()
    batches = Batches(means, craft, BatchNames(_named_in, lambda work: _named_in(work.overlay)))
    control = BatchControl(batches, SessionControl(sessions), means, craft, batches.go_on)
    return Place(sessions, runner, reader, batches, control, craft, disks)


@pytest.fixture
async def here(clock: SteeredTime) -> AsyncIterator[Place]:
    made = place(clock)
    yield made
    made.craft.gate.set()
    await made.sessions.stop(0)


@pytest.fixture
def clock() -> SteeredTime:
    return SteeredTime()
