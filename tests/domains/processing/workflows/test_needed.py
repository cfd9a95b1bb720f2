"""What runs of workflows need stays until they have ended."""

from __future__ import annotations

import asyncio

from deviceops.v1 import common_pb2, workflow_pb2
from domains.processing.workflows.convert.named import named_in
from domains.processing.workflows.core.needed import NeededArtifacts
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.processing.workflows.types import Inputs, Named
from domains.session.core.session import Session
from tests.domains.processing.workflows.runs import Steps, graph, image, place, step
from tests.e2e.workflow_calls import workflow

A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_what_a_run_names_is_found_wherever_it_stands() -> None:
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
    assert named_in(common_pb2.InputImage()) == Named()


async def test_what_is_named_and_made_is_needed_until_the_run_has_ended() -> None:
    """And of no run that was never accepted."""
    drawn, go_on = asyncio.Event(), asyncio.Event()
    made = image()

    async def draw(session: Session, inputs: Inputs) -> None:
        session.finish_image(made)

    async def wait(session: Session, inputs: Inputs) -> None:
        drawn.set()
        await go_on.wait()

    async with place() as here:
        needed = NeededArtifacts(here.services)
        earlier = await here.end(graph(step("draw")), Steps((step("draw"),)))
        (before,) = here.sessions.children(earlier.session_id)
        of = graph(step("first"), step("last", "first"))
        steps = Steps(of.steps, {"first": draw, "last": wait})
        named = Named(
            frozenset({A}),
            frozenset({(before.session_id, 0), (before.session_id, 9), ("x", 0)}),
        )
        session, turns = await here.begin(of, steps, noted=(needed, named))
        refused = WorkflowTurns(of, {}, steps, here.services, {}, None, Named(frozenset({B})))
        needed.note(refused)
        del refused
        async with asyncio.timeout(20):
            await drawn.wait()
            owners = {"mary"}
            assert needed.now() == {
                A: owners,
                before.images[0].artifact_id: owners,
                made.artifact_id: owners,
            }
            go_on.set()
            await session.over()
        assert turns.over
        assert needed.now() == {}
