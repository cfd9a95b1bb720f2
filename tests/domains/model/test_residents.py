"""What watchers are told of models that come onto devices and leave them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from domains.device.types import DeviceState, WorkerStatus
from domains.errors import Unavailable
from domains.model.core.residents import Resident, Residents
from domains.model.types import FileState
from domains.model.views import ModelEvent, ModelEventKind
from domains.values import EvictionCause
from tests.fakes.model import FakeScanner, contents_of, model


class Machine:
    """Two models on disk, and what workers say that they hold."""

    def __init__(self) -> None:
        self.scanner = FakeScanner(model("a"), model("b"))
        self.contents = contents_of(self.scanner, clock=lambda: datetime.now(UTC))
        self.held: set[Resident] = set()
        self.residents = Residents(self.contents, lambda: self.held)
        self.told: list[ModelEvent] = []
        self.contents.changes.subscribe(self.told.append)

    async def told_after_a_look(self) -> list[tuple[str, str, str, str]]:
        self.told.clear()
        await self.residents.look()
        return [
            (e.kind.value, e.model.model_id, e.device_id, e.cause.value if e.cause else "")
            for e in self.told
            if e.device_id
        ]


@pytest.fixture
async def machine() -> Machine:
    made = Machine()
    await made.contents.known()
    return made


async def test_what_comes_and_goes_is_told_once(machine: Machine) -> None:
    machine.held = {("cuda:0", "a"), ("cpu:0", "a"), ("cpu:0", "gone")}
    came = await machine.told_after_a_look()
    same = await machine.told_after_a_look()
    state = [event async for event in _state(machine)]
    machine.held = {("cpu:0", "a")}

    assert sorted(came) == [("loaded", "a", "cpu:0", ""), ("loaded", "a", "cuda:0", "")]
    assert same == []
    assert sorted(state) == ["cpu:0", "cuda:0"]
    assert await machine.told_after_a_look() == [("unloaded", "a", "cuda:0", "room")]


async def _state(machine: Machine):  # type: ignore[no-untyped-def]
    async for told in machine.contents.changes.watch("a"):
        if not isinstance(told.what, ModelEvent):
            return
        if told.what.kind is ModelEventKind.LOADED:
            yield told.what.device_id


@pytest.mark.parametrize(
    "cause", [each for each in EvictionCause if each is not EvictionCause.WORKER_LOST]
)
async def test_each_cause_is_told(machine: Machine, cause: EvictionCause) -> None:
    machine.held = {("cuda:0", "a")}
    await machine.residents.look()
    match cause:
        case EvictionCause.FILE_CHANGED:
            machine.held = set()
            machine.scanner.models = [model("a", weights=(FileState("", 1, 2),))]
            await machine.contents.refresh()
        case _:
            with machine.residents.leaving("a", "cuda:0", cause):
                machine.held = set()
    machine.residents.worker_changed("cpu:0", WorkerStatus(DeviceState.RECOVERING))

    assert await machine.told_after_a_look() == [("unloaded", "a", "cuda:0", cause.value)]


@pytest.mark.parametrize("seen", [True, False])
async def test_a_cause_does_not_outlive_what_it_was_told_of(
    machine: Machine, seen: bool
) -> None:
    machine.held = {("cuda:0", "a")}
    await machine.residents.look()
    with (
        suppress(Unavailable),
        machine.residents.leaving("a", "cuda:0", EvictionCause.PRESSURE),
    ):
        if seen:
            machine.held = set()
        else:
            raise Unavailable("The worker is busy.")
    first = await machine.told_after_a_look()
    machine.held = {("cuda:0", "a")}
    await machine.residents.look()
    machine.held = set()
    last = await machine.told_after_a_look()

    assert first == ([("unloaded", "a", "cuda:0", "pressure")] if seen else [])
    assert last == [("unloaded", "a", "cuda:0", "room")]


async def test_a_cause_holds_as_long_as_it_takes(machine: Machine) -> None:
    machine.held = {("cuda:0", "a")}
    with machine.residents.leaving("a", "cuda:0", EvictionCause.PRESSURE):
        await machine.residents.look()
        await machine.residents.look()
        machine.held = set()

    assert await machine.told_after_a_look() == [("unloaded", "a", "cuda:0", "pressure")]


async def test_what_a_lost_worker_held_is_told_at_once(machine: Machine) -> None:
    machine.held = {("cuda:0", "a"), ("cpu:0", "a")}
    await machine.residents.look()
    machine.told.clear()
    machine.held = {("cpu:0", "a")}
    machine.residents.worker_changed("cuda:0", WorkerStatus(DeviceState.RECOVERING))
    (told,) = machine.told
    assert (told.kind, told.device_id) == (ModelEventKind.UNLOADED, "cuda:0")
    assert told.cause is EvictionCause.WORKER_LOST
