"""Steps that take and free memory, over a real channel to real workers."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from deviceops.v1 import memory_pb2, processing_pb2, session_pb2, workflow_pb2
from tests.e2e.errors import refusal_of
from tests.e2e.test_workflow_restarts import kill, watched
from tests.e2e.workflow_calls import ended, refused, run_request, workflow
from tests.fakes.tiny_models import save_sd1
from tests.running import Client, start_server

MIB = 1 << 20
SMALL = "model_id: 'small' width: 256 height: 256 seed: 5"


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """One tiny checkpoint."""
    save_sd1(models / "small")
    return models


async def held(client: Client) -> dict[int, memory_pb2.Allocation]:
    """The client's memory, by its size. All that steps take here is whole MiB; calls of other
    files left a byte or two on the shared server."""
    request = memory_pb2.ListAllocationsRequest()
    found = await client.memory.ListAllocations(request, metadata=client.metadata)
    return {each.size_bytes: each for each in found.allocations if each.size_bytes % MIB == 0}


async def freed(client: Client, allocation_id: str) -> None:
    request = memory_pb2.DeleteAllocationRequest(allocation_id=allocation_id)
    await client.memory.DeleteAllocation(request, metadata=client.metadata)


async def test_memory_is_there_for_the_run_and_freed_by_a_step_or_at_its_end(
    client: Client,
) -> None:
    """Where an earlier step ran, on a device that is named, and in main memory."""
    wanted = workflow(f"""
        parameters {{ name: 'size' kind: VALUE_KIND_INTEGER }}
        steps {{ step_id: 'draw' generate {{ settings {{ {SMALL} steps: 2 }} }} }}
        steps {{
          step_id: 'beside' allocate_memory {{ size_bytes: {MIB} }}
          bindings {{
            input: 'place.device_id'
            output {{ step_id: 'draw' kind: STEP_OUTPUT_KIND_DEVICE }}
          }}
        }}
        steps {{
          step_id: 'main' allocate_memory {{ place {{ host {{}} }} }}
          bindings {{ input: 'size_bytes' parameter: 'size' }}
        }}
        steps {{
          step_id: 'kept' allocate_memory {{
            size_bytes: {3 * MIB} keep: true lease {{ seconds: 300 }}
          }}
          placement {{ device_id: 'cpu' }}
        }}
        steps {{
          step_id: 'free' free_memory {{}}
          bindings {{
            input: 'allocation_id'
            output {{ step_id: 'beside' kind: STEP_OUTPUT_KIND_ALLOCATION }}
          }}
        }}
        steps {{
          step_id: 'slow' generate {{ settings {{ {SMALL} steps: 10 }} }}
          after_step_ids: ['free', 'main', 'kept']
        }}
    """)
    request = run_request(wanted, size=2 * MIB)
    during: dict[int, memory_pb2.Allocation] = {}
    events = []
    async for response in client.processing.RunWorkflow(request, metadata=client.metadata):
        events.append(response.event)
        if response.event.item_id == "slow" and not during:
            during = await held(client)
    assert events[-1].HasField("completed")
    assert set(ended(events)) == {"draw", "beside", "main", "kept", "free", "slow"}
    assert set(during) == {2 * MIB, 3 * MIB}
    assert [during[size].label for size in (2 * MIB, 3 * MIB)] == ["main", "kept"]
    assert during[2 * MIB].place.HasField("host")
    assert during[3 * MIB].place.device_id == "cpu:0"
    left = await held(client)
    assert set(left) == {3 * MIB}
    await freed(client, left[3 * MIB].allocation_id)


async def test_what_a_run_holds_goes_with_it_however_it_ends(client: Client) -> None:
    """A step that fails says which it is, and what other steps took is free."""
    wanted = workflow(f"""
        steps {{ step_id: 'take' allocate_memory {{ size_bytes: {MIB} }} }}
        steps {{
          step_id: 'gone' free_memory {{ allocation_id: 'never-was' }} after_step_ids: 'take'
        }}
    """)
    events, told = await refused(client, run_request(wanted))
    assert (told.reason, told.metadata["step_id"]) == ("ALLOCATION_NOT_FOUND", "gone")
    assert ended(events)["gone"].failure.message
    assert await held(client) == {}


async def test_what_is_wrong_is_told_before_anything_runs(client: Client) -> None:
    wanted = workflow("""
        steps { step_id: 'none' allocate_memory { size_bytes: 1 lease { nanos: 1 } } }
        steps {
          step_id: 'many' allocate_memory { size_bytes: 1 }
          placement { any { kinds: DEVICE_KIND_CPU } }
        }
        steps { step_id: 'what' free_memory {} }
        steps {
          step_id: 'kind' free_memory {}
          bindings {
            input: 'allocation_id' output { step_id: 'none' kind: STEP_OUTPUT_KIND_SEED }
          }
        }
        steps {
          step_id: 'wrong' allocate_memory { size_bytes: 1 }
          bindings {
            input: 'size_bytes' output { step_id: 'none' kind: STEP_OUTPUT_KIND_ALLOCATION }
          }
        }
        steps { step_id: 'empty' allocate_memory {} }
    """)
    ask = workflow_pb2.ValidateWorkflowRequest(workflow=wanted)
    found = await client.processing.ValidateWorkflow(ask, metadata=client.metadata)
    assert {each.field: each.reason for each in found.violations} == {
        "workflow.steps[0].allocate_memory.lease": "FIELD_OUT_OF_RANGE",
        "workflow.steps[1].placement": "FIELDS_CONFLICT",
        "workflow.steps[2].free_memory.allocation_id": "REQUIRED_FIELD_MISSING",
        "workflow.steps[3].bindings[0].output.kind": "WORKFLOW_INVALID",
        "workflow.steps[3].bindings[0].input": "WORKFLOW_INVALID",
        "workflow.steps[4].bindings[0].input": "WORKFLOW_INVALID",
        "workflow.steps[5].allocate_memory.size_bytes": "FIELD_OUT_OF_RANGE",
    }
    del wanted.steps[:]
    wanted.steps.add(step_id="far").allocate_memory.size_bytes = 5 * MIB
    ask.workflow.CopyFrom(wanted)
    found = await client.processing.ValidateWorkflow(ask, metadata=client.metadata)
    assert (found.valid, found.needs.peak_memory.value_bytes) == (True, 5 * MIB)
    wanted.steps[0].allocate_memory.place.device_id = "cuda:9"
    told = await refusal_of(
        client.processing.RunWorkflow(run_request(wanted), metadata=client.metadata).read()
    )
    assert told.reason == "DEVICE_NOT_FOUND"
    assert await held(client) == {}


@pytest.mark.demonstration
async def test_a_run_takes_its_memory_again_in_the_next_server(
    root: Path, tmp_path: Path
) -> None:
    wanted = workflow(f"""
        steps {{ step_id: 'take' allocate_memory {{ size_bytes: {MIB} }} }}
        steps {{
          step_id: 'before' generate {{ settings {{ {SMALL} steps: 2 }} }}
          after_step_ids: 'take'
        }}
        steps {{
          step_id: 'slow' generate {{ settings {{ {SMALL} steps: 40 }} }}
          after_step_ids: 'before'
        }}
        steps {{
          step_id: 'free' free_memory {{}} after_step_ids: 'slow'
          bindings {{
            input: 'allocation_id'
            output {{ step_id: 'take' kind: STEP_OUTPUT_KIND_ALLOCATION }}
          }}
        }}
        steps {{
          step_id: 'last' generate {{ settings {{ {SMALL} steps: 2 }} }}
          after_step_ids: 'free'
        }}
    """)
    request = run_request(wanted)
    request.options.request_id = str(uuid.uuid4())
    request.options.on_disconnect = session_pb2.ON_DISCONNECT_DETACH
    flags = ("--model-root", str(root))
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            call = client.processing.RunWorkflow(request, metadata=client.metadata)
            async for response in call:
                event = response.event
                if event.item_id == "slow" and event.HasField("step_finished"):
                    break
            first = (await held(client))[MIB].allocation_id
            kill(server)
    with start_server(tmp_path, *flags) as server:
        async with server.client() as client:
            during: dict[int, memory_pb2.Allocation] = {}
            ask = processing_pb2.WatchSessionRequest(session_id=event.session_id)
            call = client.processing.WatchSession(ask, metadata=client.metadata)
            async for response in call:
                if response.event.item_id == "slow" and response.event.HasField(
                    "step_finished"
                ):
                    during = await held(client)
                    break
            call.cancel()
            assert during[MIB].allocation_id != first
            events = await watched(client, event.session_id)
            assert events[-1].HasField("completed"), events[-1]
            assert await held(client) == {}
