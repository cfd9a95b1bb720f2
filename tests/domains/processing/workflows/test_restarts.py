"""What becomes of a run's steps when its server ends, and in the next one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.processing.workflows.types import Graph, Inputs
from domains.session.core.about import Parent
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.records import KeptMessage
from domains.session.types import OnDisconnect, Phase, SessionKind, SessionState, WorkOptions
from tests.clocks import SteeredTime
from tests.domains.processing.workflows.runs import Steps, graph, image, place, step
from tests.domains.session.servers import Disk, Server
from tests.domains.session.test_pausing import until
from tests.domains.session.test_taking_up import repeatable
from tests.domains.sessions import until_final

DETACHED = WorkOptions(on_disconnect=OnDisconnect.DETACH)


class DeviceSteps(Steps):
    """Steps that wait for a device, and cannot be taken up by themselves."""

    def request(self, place: int, inputs: Inputs, run: Session, name: str) -> SessionRequest:
        request = super().request(place, inputs, run, name)

        async def prepare() -> SessionPlan:
            return replace(await request.prepare(), device_id="cpu:0")

        return replace(request, prepare=prepare, options=DETACHED)


def workflow(server: Server, of: Graph, steps: Steps) -> SessionRequest:
    """A run that goes on in the next server."""
    services = SessionServices(server.sessions, server.runner, server.reader)

    async def prepare(decided: object = None) -> SessionPlan:
        turns = WorkflowTurns(of, {}, steps, services, {each.step_id: 1.0 for each in of.steps})
        kind, phases = SessionKind.WORKFLOW, (Phase.QUEUED,)
        return SessionPlan(kind, "", phases, turns.work, pause=turns.pause, ended=turns.ended)

    message = KeptMessage("request", b"workflow")
    return SessionRequest(DETACHED, b"", prepare, "mary", again=prepare, message=message)


async def forever(session: Session) -> None:
    await asyncio.Event().wait()


async def nothing(session: Session) -> None:
    return None


async def waits_in(server: Server, run: Session) -> None:
    """Return once a step of the run waits for its device."""
    async with asyncio.timeout(10):
        while not server.sessions.children(run.session_id):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_step_that_ends_with_its_server_is_done_by_the_next_one(in_order: bool) -> None:
    """Whether the server had time to end in order or not."""
    disk, clock, of = Disk(), SteeredTime(), graph(step("a", work="unload_model"))
    first = Server(disk, clock, 10)
    await first.runner.begin(repeatable(forever, name=b"busy"))
    run = await first.runner.begin(workflow(first, of, DeviceSteps(of.steps)))
    await waits_in(first, run)
    if in_order:
        await first.sessions.stop(0)
    assert run.state is not SessionState.FAILED

    second, steps = Server(disk, clock, 10), DeviceSteps(of.steps)
    second.anew[b"busy"] = repeatable(nothing, name=b"busy")
    second.anew[b"workflow"] = workflow(second, of, steps)
    await second.taking_up.run()
    again = second.sessions.get(run.session_id)
    await until_final(again)

    assert (again.state, steps.counts) == (SessionState.COMPLETED, {"a": 1})
    await second.sessions.stop(0)
    await first.sessions.stop(0)


async def test_what_a_run_has_done_is_remembered_whatever_ends_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its steps' sessions say what is done when it goes on after a pause."""
    async with place() as here:
        monkeypatch.setattr(here.sessions, "_kept", 5)
        of, goes_on = graph(step("a"), step("b", "a")), asyncio.Event()

        async def second(session: Session, inputs: Inputs) -> None:
            await goes_on.wait()
            session.finish_image(image())

        steps = Steps(of.steps, {"b": second})
        run, _ = await here.begin(of, steps)
        async with asyncio.timeout(10):
            while not steps.counts["b"]:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        for number in range(10):  # as of a batch
            other = await here.services.runner.begin(alone(Parent("batch", str(number))))
            await other.over()
        here.sessions.forget_expired()
        assert len(here.services.of(run, "a")) == 1

        here.sessions.pause(run, "", "mary")
        goes_on.set()
        await until(run, SessionState.PAUSED)
        here.sessions.resume(run, "mary")
        await until_final(run)
        assert (run.state, steps.counts) == (SessionState.COMPLETED, {"a": 1, "b": 1})
        here.sessions.forget_expired()
        assert len(here.sessions.all()) <= 6  # it is over, and they count as others' do


def alone(parent: Parent) -> SessionRequest:
    """Work of another one's part, which does nothing."""

    async def prepare() -> SessionPlan:
        return SessionPlan(SessionKind.GENERATION, "", (Phase.QUEUED,), nothing)

    return SessionRequest(WorkOptions(), b"", prepare, "mary", parent)
