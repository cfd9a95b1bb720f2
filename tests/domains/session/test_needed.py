"""What accepted work names stays until it has ended, over restarts too."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from deviceops.v1 import common_pb2, inference_pb2, workflow_pb2
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.session.convert.named import named_in, named_in_kept
from domains.session.core.about import Parent
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.records import KeptMessage
from domains.session.types import OnDisconnect, SessionKind, WorkOptions
from domains.session.types.named import NOTHING_NAMED, NameCounts, Named
from tests.clocks import SteeredTime
from tests.domains.session.conftest import asked, picture, plan
from tests.domains.session.servers import Disk, Server
from tests.e2e.workflow_calls import workflow

A, B, C = "a" * 64, "b" * 64, "c" * 64
DETACHED = WorkOptions(on_disconnect=OnDisconnect.DETACH)


def test_what_a_request_names_is_found_wherever_it_stands() -> None:
    """In steps, lists, arguments and their values; an empty id names nothing."""
    request = workflow_pb2.RunWorkflowRequest(
        workflow=workflow(f"""
            steps {{ step_id: 'one' postprocess {{
              steps {{ lut {{ artifact_id: '{A}' }} }}
              steps {{ watermark {{ image {{ artifact_id: '{B}' }} }} }}
              steps {{ lut {{ cube: 'x' }} }}
            }} }}
            steps {{ step_id: 'two' generate {{ settings {{ image_to_image {{ image {{
              session_image {{ session_id: 's' image_index: 3 }} }} }} }} }} }}
        """)
    )
    request.arguments["pictures"].images.images.add(artifact_id=C)
    request.arguments["texts"].text = "d" * 64
    assert named_in(request) == Named(frozenset({A, B, C}), frozenset({("s", 3)}))
    assert named_in(common_pb2.InputImage()) == NOTHING_NAMED


@pytest.mark.parametrize(
    "kept",
    [KeptMessage("deviceops.v1.Gone", b""), KeptMessage("deviceops.v1.InputImage", b"\xff")],
)
def test_what_nobody_can_read_any_more_names_nothing(kept: KeptMessage) -> None:
    assert named_in_kept(kept) == NOTHING_NAMED


def test_what_two_parts_name_is_needed_until_both_have_ended() -> None:
    counts = NameCounts()
    counts.add(Named(frozenset({A, B}), frozenset({("s", 1)})))
    counts.add(Named(frozenset({A})))
    counts.remove(Named(frozenset({A, B}), frozenset({("s", 1)})))
    assert (set(counts.artifacts), set(counts.pictures)) == ({A}, set())


def naming(
    artifact_id: str, work: asyncio.Event, options: WorkOptions = DETACHED
) -> SessionRequest:
    """Work that ends with the event and names an artifact, which can be begun anew."""

    async def wait(session: Session) -> None:
        await work.wait()

    request = asked(wait, options)
    body = inference_pb2.GenerateRequest()
    body.settings.image_to_image.image.artifact_id = artifact_id
    message = KeptMessage(body.DESCRIPTOR.full_name, body.SerializeToString())
    return replace(
        request,
        again=lambda seeds: request.prepare(),
        message=message,
        named=named_in(body),
    )


async def test_what_is_named_is_needed_until_the_end_also_in_the_next_server(
    clock: SteeredTime,
) -> None:
    """There before anything has been taken up: a device may be looked for meanwhile."""
    disk, end = Disk(), asyncio.Event()
    server = Server(disk, clock)
    request = naming(A, end)
    session = await server.runner.begin(request)
    assert server.sessions.needed.now() == {A: {"default"}}
    await server.sessions.stop(0)

    server = Server(disk, clock)
    assert server.sessions.needed.now() == {A: {"default"}}
    assert request.message is not None
    server.anew[request.message.body] = request
    await server.taking_up.run()
    assert server.sessions.needed.now() == {A: {"default"}}
    end.set()
    async with asyncio.timeout(10):
        await server.sessions.get(session.session_id).over()
    assert server.sessions.needed.now() == {}


async def test_what_is_looked_at_before_it_is_accepted_stays_for_that_long(
    clock: SteeredTime,
) -> None:
    """And is let go of where the work is refused, by its service or by the disk."""
    disk = Disk()
    server = Server(disk, clock)
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def prepare() -> SessionPlan:
        looking.set()
        await go_on.wait()
        raise ResourceExhausted("No.", reason=Reason.QUEUE_FULL)

    request = replace(naming(A, go_on), prepare=prepare)
    begun = asyncio.create_task(server.runner.begin(request))
    await looking.wait()
    assert server.sessions.needed.now() == {A: {"default"}}
    go_on.set()
    with pytest.raises(ResourceExhausted):
        await begun
    assert server.sessions.needed.now() == {}
    disk.full = disk.requests.full = True
    with pytest.raises(DomainError):
        await server.runner.begin(naming(A, go_on))
    assert server.sessions.needed.now() == {}
    await server.sessions.stop(0)


async def test_pictures_of_sessions_and_what_a_runs_steps_made_are_needed_too(
    clock: SteeredTime,
) -> None:
    server = Server(Disk(), clock)
    end, drawn = asyncio.Event(), asyncio.Event()

    async def wait(session: Session) -> None:
        await end.wait()

    async def draw(session: Session) -> None:
        session.finish_image(picture())
        drawn.set()

    def of(kind: SessionKind, named: Named = NOTHING_NAMED) -> SessionRequest:
        async def prepare() -> SessionPlan:
            return replace(plan(work=wait, device_id=""), kind=kind)

        return replace(asked(wait), prepare=prepare, named=named)

    run = await server.runner.begin(of(SessionKind.WORKFLOW))
    parent = Parent(run.session_id, "draw")
    child = await server.runner.begin(replace(asked(draw), parent=parent))
    async with asyncio.timeout(10):
        await child.over()
    assert server.sessions.needed.now() == {picture().artifact_id: {"default"}}
    end.set()
    async with asyncio.timeout(10):
        await run.over()
    assert server.sessions.needed.now() == {}

    end.clear()
    pictures = frozenset({(child.session_id, 0), (child.session_id, 9), ("x", 0)})
    other = await server.runner.begin(of(SessionKind.BATCH, Named(pictures=pictures)))
    assert server.sessions.needed.now() == {picture().artifact_id: {"default"}}
    end.set()
    async with asyncio.timeout(10):
        await other.over()
    assert server.sessions.needed.now() == {}
