"""Workflows over a real channel to a real worker, the ready-made ones first."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from deviceops.v1 import (
    artifact_pb2,
    common_pb2,
    errors_pb2,
    event_pb2,
    generation_pb2,
    inference_pb2,
    processing_pb2,
    session_pb2,
    workflow_pb2,
)
from domains.processing.workflows.convert.ready import ready_made
from tests.domains.chain.photograph import PATH
from tests.e2e.errors import refusal_of
from tests.e2e.uploading import uploaded
from tests.e2e.workflow_calls import ended, refused, run, run_request, workflow
from tests.fakes.tiny_models import save_sdxl
from tests.running import Client, RunningServer

PHOTOGRAPH = workflow_pb2.WorkflowValue(
    images=workflow_pb2.WorkflowImages(images=[common_pb2.InputImage(inline=PATH.read_bytes())])
)
READY = [each.workflow_id for each in ready_made()]
SMALL = "settings { model_id: 'tiny' width: 256 height: 256 steps: 2 seed: 5 }"
DRAW_TWO = workflow(f"""
    steps {{ step_id: 'first' generate {{ {SMALL} }} }}
    steps {{
      step_id: 'second'
      generate {{ {SMALL.replace("seed: 5", "image_to_image { strength: 0.5 }")} }}
      bindings {{ input: 'settings.image_to_image.image' output {{ step_id: 'first' }} }}
      bindings {{
        input: 'settings.seed' output {{ step_id: 'first' kind: STEP_OUTPUT_KIND_SEED }}
      }}
    }}
""")


@pytest.fixture(scope="module")
def root(models: Path) -> Path:
    """A small model that can be drawn with."""
    save_sdxl(models / "tiny")
    return models


@pytest.fixture
async def pictures(client: Client) -> list[str]:
    """Two pictures of the client's."""
    request = run_request(
        "basic-image-generation",
        prompt="a dog",
        steps=1,
        count=2,
        model=workflow_pb2.WorkflowValue(model_id="tiny"),
    )
    events = await run(client, request)
    return [image.artifact_id for image in events[-1].completed.images]


async def deleted(client: Client, artifact_id: str) -> None:
    request = artifact_pb2.DeleteArtifactRequest(artifact_id=artifact_id)
    await client.artifact.DeleteArtifact(request, metadata=client.metadata)


async def pixels_of(client: Client, artifact_id: str) -> npt.NDArray[np.uint8]:
    request = artifact_pb2.DownloadArtifactRequest(artifact_id=artifact_id)
    call = client.artifact.DownloadArtifact(request, metadata=client.metadata)
    data = b"".join([each.data async for each in call])
    return np.asarray(Image.open(io.BytesIO(data)))


async def children(
    client: Client, events: list[event_pb2.SessionEvent]
) -> list[session_pb2.Session]:
    asked = processing_pb2.ListSessionsRequest(
        filter=processing_pb2.SessionFilter(parent_session_id=events[0].session_id)
    )
    found = await client.processing.ListSessions(asked, metadata=client.metadata)
    return list(found.sessions)


def arguments_of(name: str, pictures: list[str]) -> dict[str, object]:
    """What a ready-made workflow is run with: small, and by the demo model."""
    return {
        "batch-processing": {"prompt": "a cat", "steps": 2},
        "basic-image-generation": {"prompt": "a cat", "steps": 2, "count": 2},
        "detail-inpaint": {"image": pictures[:1], "mask": pictures[1:], "steps": 4},
        "face-detail": {"image": PHOTOGRAPH, "steps": 5},
        "generate-and-upscale": {"prompt": "a cat", "steps": 2},
        "image-variations": {"image": pictures, "steps": 2, "count": 1, "strength": 0.9},
        "model-loading": {"model": workflow_pb2.WorkflowValue(model_id="emoji-xl")},
        "second-pass": {"prompt": "a cat", "steps": 2, "width": 256, "height": 256},
    }[name]


@pytest.mark.demonstration
@pytest.mark.parametrize("name", READY)
async def test_a_ready_made_workflow_runs(
    name: str, client: Client, pictures: list[str]
) -> None:
    events = await run(client, run_request(name, **arguments_of(name, pictures)))
    completed = events[-1].completed
    expected = {
        "basic-image-generation": 2,
        "batch-processing": 4,
        "image-variations": 2,
        "model-loading": 0,
    }
    assert completed.image_count == len(completed.images) == expected.get(name, 1)
    assert [each.image_index for each in completed.images] == [*range(completed.image_count)]
    finished = [e.image_finished.image for e in events if e.HasField("image_finished")]
    assert finished == list(completed.images)
    assert not any(each.HasField("failure") for each in ended(events).values())


async def test_those_that_come_with_the_server_are_listed_and_judged(client: Client) -> None:
    listed = await client.processing.ListWorkflows(
        workflow_pb2.ListWorkflowsRequest(), metadata=client.metadata
    )
    assert {each.workflow_id for each in listed.workflows} == {*READY}
    for each in listed.workflows:
        name = each.workflow_id
        assert (each.built_in, each.version, each.owner) == (True, 1, "")
        assert not each.steps
        assert not any(parameter.HasField("default_value") for parameter in each.parameters)
        asked = workflow_pb2.ValidateWorkflowRequest(workflow_id=name)
        verdict = await client.processing.ValidateWorkflow(asked, metadata=client.metadata)
        assert not verdict.violations, name
        assert verdict.valid


CUT_TWO = workflow("""
    parameters { name: 'pictures' kind: VALUE_KIND_IMAGES }
    steps {
      step_id: 'cut'
      postprocess {
        steps { crop { width: 200 height: 100 } }
        output { format: IMAGE_FILE_FORMAT_WEBP }
      }
      bindings { input: 'images' parameter: 'pictures' }
    }
    steps {
      step_id: 'small'
      postprocess { steps { resize { width: 20 height: 10 } } }
      bindings { input: 'images' output { step_id: 'cut' } }
      condition { output { step_id: 'cut' kind: STEP_OUTPUT_KIND_FLAGGED } negated: true }
    }
""")


async def test_steps_finish_pictures_of_others(client: Client, pictures: list[str]) -> None:
    events = await run(client, run_request(CUT_TWO, pictures=pictures))
    images = events[-1].completed.images
    assert [(each.width, each.height, each.item_id) for each in images] == [
        (20, 10, "small"),
        (20, 10, "small"),
    ]
    cut = ended(events)["cut"].images
    assert [(each.width, each.height) for each in cut] == [(200, 100)] * 2
    assert {each.format for each in cut} == {common_pb2.IMAGE_FILE_FORMAT_WEBP}


async def test_previews_of_its_chains_come_where_a_run_asks_for_them(
    client: Client, pictures: list[str]
) -> None:
    sharpened = workflow("""
        parameters { name: 'pictures' kind: VALUE_KIND_IMAGES }
        steps {
          step_id: 'sharp'
          postprocess { steps { deblur {} } steps { deblur {} } steps { deblur {} } }
          bindings { input: 'images' parameter: 'pictures' }
        }
    """)
    request = run_request(sharpened, pictures=pictures)
    request.delivery.previews.every_steps = 1

    events = await run(client, request)

    shown = [each for each in events if each.HasField("preview")]
    assert {each.item_id for each in shown} == {"sharp"}
    assert all(each.preview.data.startswith(b"\xff\xd8") for each in shown)


async def test_files_that_a_step_names_stay_until_its_turn_has_come(client: Client) -> None:
    """A table of colours and the picture of a mark, both as artifacts."""
    inverting = b"LUT_3D_SIZE 2\n" + b"".join(
        b"%d %d %d\n" % (1 - r, 1 - g, 1 - b) for b, g, r in itertools.product((0, 1), repeat=3)
    )
    mark = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(mark, "PNG")
    table, picture = [await uploaded(client, each) for each in (inverting, mark.getvalue())]
    drawn = SMALL.replace("steps: 2", "steps: 20")
    wanted = workflow(f"""
        steps {{ step_id: 'drawn' generate {{ {drawn} }} }}
        steps {{
          step_id: 'finished'
          postprocess {{
            steps {{ lut {{ artifact_id: '{table}' }} }}
            steps {{ watermark {{
              image {{ artifact_id: '{picture}' }} opacity: 1 anchor: ANCHOR_TOP_LEFT
              margin_pixels: 0 scale: 0.1
            }} }}
          }}
          bindings {{ input: 'images' output {{ step_id: 'drawn' }} }}
        }}
    """)
    refusals, events = [], []
    call = client.processing.RunWorkflow(run_request(wanted), metadata=client.metadata)
    async for response in call:
        events.append(response.event)
        if response.event.HasField("phase_started") and not refusals:
            refusals = [await refusal_of(deleted(client, each)) for each in (table, picture)]

    assert [(each.reason, each.metadata["state"]) for each in refusals] == [
        ("STATE_CONFLICT", "needed")
    ] * 2
    steps = ended(events)
    before, after = [
        await pixels_of(client, steps[name].images[0].artifact_id)
        for name in ("drawn", "finished")
    ]
    assert (after[:26, :26] == (255, 0, 0)).all()
    assert np.array_equal(after[26:], 255 - before[26:])
    for each in (table, picture):
        await deleted(client, each)
    _, refusal = await refused(client, run_request(wanted))
    assert refusal.reason == "ARTIFACT_NOT_FOUND"
    where = refusal.metadata["step"], refusal.metadata["field"]
    assert where == ("workflow.steps[1].postprocess", "steps[0].lut.artifact_id")


async def test_a_step_that_cannot_finish_its_pictures_is_refused_or_fails(
    client: Client, pictures: list[str]
) -> None:
    """At once where a single picture is known; else when it is done, by each of them."""
    known, later = workflow_pb2.Workflow(), workflow_pb2.Workflow()
    known.CopyFrom(CUT_TWO)
    known.steps[0].postprocess.steps[0].crop.width = 300
    events, refusal = await refused(client, run_request(known, pictures=pictures[:1]))
    assert not events
    assert [field.split(".crop")[0] for field in refusal.fields] == [
        "workflow.steps[0].postprocess.steps[0]"
    ]
    later.CopyFrom(CUT_TWO)
    later.steps[1].postprocess.steps[0].crop.CopyFrom(known.steps[0].postprocess.steps[0].crop)
    for given in (pictures[:1], pictures):
        events, refusal = await refused(client, run_request(later, pictures=given))
        steps = ended(events)
        assert len(steps["cut"].images) == len(given)
        assert steps["small"].HasField("failure")
        assert refusal.metadata["step_id"] == "small"


async def test_a_step_is_given_the_picture_and_the_seed_of_another(client: Client) -> None:
    events = await run(client, run_request(DRAW_TWO))
    steps = ended(events)
    first, second = steps["first"].images[0], steps["second"].images[0]
    assert (first.seed, second.seed) == (5, 5)
    assert [each.item_id for each in events[-1].completed.images] == ["second"]
    by_hand = inference_pb2.GenerateRequest()
    by_hand.settings.CopyFrom(DRAW_TWO.steps[1].generate.settings)
    by_hand.settings.seed = 5
    by_hand.settings.image_to_image.image.artifact_id = first.artifact_id
    alone, _ = await client.draw(by_hand)
    assert alone[-1].completed.images[0].artifact_id == second.artifact_id
    made = {each.session_id: each for each in await children(client, events)}
    assert set(made) == {steps["first"].session_id, steps["second"].session_id}
    assert {each.state for each in made.values()} == {session_pb2.SESSION_STATE_COMPLETED}
    numbers = [e.sequence for e in events if e.WhichOneof("event") != "image_chunk"]
    assert numbers == [*range(1, numbers[-1] + 1)]


@pytest.mark.demonstration
async def test_the_same_request_id_is_the_same_run(client: Client) -> None:
    request = run_request(DRAW_TWO)
    request.options.request_id = "5f8d1c0e-8f0b-4f37-9a52-0c4a1a6f7c11"
    first = await run(client, request)
    again = await run(client, request)
    assert again[0].session_id == first[0].session_id
    assert again[0].accepted.existing


async def test_everything_that_is_wrong_is_told_before_anything_runs(client: Client) -> None:
    wrong = workflow(f"""
        parameters {{ name: 'n' kind: VALUE_KIND_NUMBER }}
        steps {{
          step_id: 'a' generate {{ settings {{ steps: 151 }} }}
          after_step_ids: 'b'
        }}
        steps {{
          step_id: 'b' generate {{ {SMALL} }}
          bindings {{ input: 'settings.image_to_image.image' output {{ step_id: 'a' }} }}
          bindings {{ input: 'settings.prompt' parameter: 'n' }}
          bindings {{ input: 'settings.nothing' parameter: 'm' }}
        }}
    """)
    request = run_request(wrong, n="text", o=1)
    _, refusal = await refused(client, request)
    fields = {
        "workflow.steps[0].generate.settings.steps",
        "workflow.steps[0]",
        "workflow.steps[1].bindings[1].input",
        "workflow.steps[1].bindings[2].input",
        "workflow.steps[1].bindings[2].parameter",
        "arguments['n']",
        "arguments['o']",
    }
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == fields
    asked = workflow_pb2.ValidateWorkflowRequest(
        workflow=wrong, arguments=request.arguments, check_arguments=True
    )
    verdict = await client.processing.ValidateWorkflow(asked, metadata=client.metadata)
    assert (verdict.valid, list(verdict.step_order)) == (False, [])
    assert {violation.field for violation in verdict.violations} == fields
    assert {violation.reason for violation in verdict.violations} == {
        "WORKFLOW_INVALID",
        "FIELD_OUT_OF_RANGE",
    }


async def test_the_rules_of_a_steps_own_service_are_told_with_their_place(
    client: Client,
) -> None:
    odd = workflow(f"""
        steps {{ step_id: 'a' generate {{ {SMALL} }} }}
        steps {{
          step_id: 'b'
          generate {{ settings {{ model_id: 'tiny' seed: 1 seeds: 2 clip_skip: 8 }} }}
          bindings {{ input: 'settings.image_to_image.image' output {{ step_id: 'a' }} }}
        }}
        steps {{ step_id: 'c' load_model {{ model_id: 'nobody' }} }}
        steps {{ step_id: 'd' unload_model {{}} }}
        steps {{ step_id: 'e' control_image {{ width: 256 }} }}
        steps {{ step_id: 'g' evict_models {{ target_free_bytes: 1 }} }}
        steps {{ step_id: 'f' optimize_device {{}} placement {{ any {{}} }} }}
    """)
    asked = workflow_pb2.ValidateWorkflowRequest(workflow=odd)
    verdict = await client.processing.ValidateWorkflow(asked, metadata=client.metadata)
    told = {(each.field, each.reason) for each in verdict.violations}
    assert ("workflow.steps[1].generate.settings.seeds", "FIELDS_CONFLICT") in told
    assert ("workflow.steps[2].load_model", "MODEL_NOT_FOUND") in told
    missing = "REQUIRED_FIELD_MISSING"
    assert ("workflow.steps[3].unload_model.model_id", missing) in told
    assert ("workflow.steps[4].control_image.image", missing) in told
    assert ("workflow.steps[4].control_image.preprocessor", missing) in told
    assert ("workflow.steps[5].placement", missing) in told
    assert ("workflow.steps[6].placement", "FIELDS_CONFLICT") in told


@pytest.mark.demonstration
async def test_what_a_run_needs_is_told(client: Client) -> None:
    await run(client, run_request(DRAW_TWO))
    asked = workflow_pb2.ValidateWorkflowRequest(workflow=DRAW_TWO)
    verdict = await client.processing.ValidateWorkflow(asked, metadata=client.metadata)
    assert verdict.valid
    assert list(verdict.step_order) == ["first", "second"]
    needs = verdict.needs
    assert (list(needs.model_ids), needs.image_count) == (["tiny"], 2)
    assert needs.peak_memory.value_bytes > 0


async def test_workflows_are_stored_changed_and_deleted(client: Client) -> None:
    mine = workflow_pb2.Workflow(workflow_id="mine", description="Two pictures.")
    mine.MergeFrom(DRAW_TWO)
    call, metadata = client.processing, client.metadata
    create = workflow_pb2.CreateWorkflowRequest(workflow=mine)
    made = (await call.CreateWorkflow(create, metadata=metadata)).workflow
    assert (made.version, made.owner, made.steps) == (1, "default", mine.steps)
    told = await refusal_of(call.CreateWorkflow(create, metadata=metadata))
    assert told.reason == "NAME_TAKEN"
    mine.steps[0].generate.settings.seed = 6
    update = workflow_pb2.UpdateWorkflowRequest(workflow=mine, expected_version=1)
    assert (await call.UpdateWorkflow(update, metadata=metadata)).workflow.version == 2
    told = await refusal_of(call.UpdateWorkflow(update, metadata=metadata))
    assert (told.reason, told.metadata["version"]) == ("STATE_CONFLICT", "2")
    mine.version, mine.workflow_id = 2, ".."
    create = workflow_pb2.CreateWorkflowRequest(workflow=mine)
    told = await refusal_of(call.CreateWorkflow(create, metadata=metadata))
    assert told.fields == ["workflow.workflow_id", "workflow.version"]
    events = await run(client, run_request("mine"))
    assert ended(events)["first"].images[0].seed == 6
    delete = workflow_pb2.DeleteWorkflowRequest(workflow_id="mine")
    await call.DeleteWorkflow(delete, metadata=metadata)
    asked = workflow_pb2.GetWorkflowRequest(workflow_id="mine")
    told = await refusal_of(call.GetWorkflow(asked, metadata=metadata))
    assert told.reason == "WORKFLOW_NOT_FOUND"
    _, told = await refused(client, run_request("mine"))
    assert told.reason == "WORKFLOW_NOT_FOUND"


@pytest.mark.demonstration
async def test_faces_of_a_picture_without_one_cannot_be_redrawn(
    client: Client, pictures: list[str]
) -> None:
    events, told = await refused(
        client, run_request("face-detail", image=pictures[:1], steps=5)
    )

    assert not events[-1].HasField("completed")
    assert told.reason == "FIELD_OUT_OF_RANGE"
    assert told.metadata["step_id"] == "redraw"
    assert len(ended(events)["find"].images) == 1


@pytest.mark.demonstration
async def test_a_workflow_runs_another_one_and_makes_control_pictures(
    client: Client, pictures: list[str]
) -> None:
    whole = workflow("""
        parameters { name: 'image' kind: VALUE_KIND_IMAGES }
        steps {
          step_id: 'edges'
          control_image { preprocessor { canny {} } width: 256 height: 256 }
          bindings { input: 'image' parameter: 'image' }
        }
        steps {
          step_id: 'inner'
          run_workflow {
            workflow_id: 'image-variations'
            arguments { key: 'steps' value { integer: 2 } }
            arguments { key: 'count' value { integer: 1 } }
          }
          bindings { input: 'arguments.image' output { step_id: 'edges' } }
        }
    """)
    events = await run(client, run_request(whole, image=pictures[:1]))
    steps = ended(events)
    assert len(steps["edges"].images) == 1
    assert [each.item_id for each in events[-1].completed.images] == ["inner"]


@pytest.mark.demonstration
async def test_the_failure_of_a_step_is_that_of_the_run_and_names_it(client: Client) -> None:
    several = workflow(f"""
        steps {{ step_id: 'two' generate {{ {SMALL.replace("seed", "image_count: 2 seed")} }} }}
        steps {{
          step_id: 'one'
          generate {{ {SMALL} }}
          bindings {{ input: 'settings.image_to_image.image' output {{ step_id: 'two' }} }}
        }}
    """)
    events, refusal = await refused(client, run_request(several))
    assert refusal.reason == "FIELDS_CONFLICT"
    assert refusal.metadata["step_id"] == "one"
    assert refusal.fields == ["workflow.steps[1].generate.settings.image_to_image.image"]
    assert events[-1].failed.failure.reason == errors_pb2.ERROR_REASON_FIELDS_CONFLICT
    assert ended(events)["one"].failure.reason == errors_pb2.ERROR_REASON_FIELDS_CONFLICT


async def test_a_step_needs_the_role_of_its_method(
    client: Client, running: RunningServer
) -> None:
    """Whoever may not unload models by a call may not by a workflow, nor by one within one."""
    plain = workflow("steps { step_id: 'free' unload_model { model_id: 'tiny' } }")
    async with running.client(await running.named("ann")) as ann:
        _, told = await refused(ann, run_request(plain))
        assert told.code is grpc.StatusCode.PERMISSION_DENIED
        assert (told.reason, told.metadata["step_id"]) == ("ROLE_REQUIRED", "free")
        asked = workflow_pb2.ValidateWorkflowRequest(workflow=plain)
        verdict = await ann.processing.ValidateWorkflow(asked, metadata=ann.metadata)
        (violation,) = verdict.violations
        assert (violation.field, violation.reason) == ("workflow.steps[0]", "ROLE_REQUIRED")
        plain.workflow_id = "free"
        create = workflow_pb2.CreateWorkflowRequest(workflow=plain)
        await ann.processing.CreateWorkflow(create, metadata=ann.metadata)
        within = workflow("steps { step_id: 'a' run_workflow { workflow_id: 'free' } }")
        _, told = await refused(ann, run_request(within))
        assert told.reason == "ROLE_REQUIRED"
    both = workflow("""
        steps { step_id: 'load' load_model { model_id: 'tiny' } }
        steps { step_id: 'free' unload_model { model_id: 'tiny' } after_step_ids: 'load' }
    """)
    events = await run(client, run_request(both))  # of the role ADMIN
    assert not ended(events)["free"].HasField("failure")


@pytest.mark.demonstration
async def test_a_condition_and_a_policy_decide_what_runs(client: Client) -> None:
    asked = workflow(f"""
        steps {{ step_id: 'gone' load_model {{}} on_failure: FAILURE_POLICY_IGNORE
          bindings {{
            input: 'model_id' output {{ step_id: 'draw' kind: STEP_OUTPUT_KIND_MODEL }}
          }}
          placement {{ device_id: 'cpu:0' }} }}
        steps {{ step_id: 'draw' generate {{ {SMALL} }} }}
        steps {{ step_id: 'then' generate {{ {SMALL} }}
          condition {{ output {{ step_id: 'draw' }} }} }}
        steps {{ step_id: 'else' generate {{ {SMALL} }}
          condition {{ output {{ step_id: 'draw' }} negated: true }} }}
    """)
    events = await run(client, run_request(asked))
    steps = ended(events)
    assert len(steps["then"].images) == 1
    assert (steps["else"].session_id, len(steps["else"].images)) == ("", 0)
    assert steps["then"].total_count == 4


@pytest.fixture
async def long_run(client: Client) -> AsyncIterator[tuple[str, grpc.aio.UnaryStreamCall]]:
    """The session of a run whose only step takes long, and its call."""
    long = generation_pb2.GenerationSettings(
        model_id="tiny", width=512, height=512, steps=150, image_count=9
    )
    of = workflow("steps { step_id: 'long' generate {} }")
    of.steps[0].generate.settings.CopyFrom(long)
    request = run_request(of)
    call = client.processing.RunWorkflow(request, metadata=client.metadata)
    session_id = ""
    async for response in call:
        session_id = response.event.session_id
        if response.event.WhichOneof("event") == "step_finished":
            break
    yield session_id, call
    call.cancel()


@pytest.mark.demonstration
async def test_pausing_and_cancelling_a_run_do_so_with_its_steps(
    client: Client, long_run: tuple[str, grpc.aio.UnaryStreamCall]
) -> None:
    session_id, _ = long_run
    call, metadata = client.processing, client.metadata

    async def states() -> list[int]:
        whole = await call.GetSession(
            processing_pb2.GetSessionRequest(session_id=session_id), metadata=metadata
        )
        steps = processing_pb2.SessionFilter(parent_session_id=session_id)
        listed = await call.ListSessions(
            processing_pb2.ListSessionsRequest(filter=steps), metadata=metadata
        )
        return [whole.session.state, *(each.state for each in listed.sessions)]

    async def until(*wanted: int) -> None:
        async with asyncio.timeout(60):
            while await states() != [*wanted]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    pause = processing_pb2.PauseSessionRequest(session_id=session_id)
    await call.PauseSession(pause, metadata=metadata)
    await until(session_pb2.SESSION_STATE_PAUSED, session_pb2.SESSION_STATE_PAUSED)
    resume = processing_pb2.ResumeSessionRequest(session_id=session_id)
    await call.ResumeSession(resume, metadata=metadata)
    await until(session_pb2.SESSION_STATE_RUNNING, session_pb2.SESSION_STATE_RUNNING)
    cancel = processing_pb2.CancelSessionRequest(session_id=session_id)
    await call.CancelSession(cancel, metadata=metadata)
    await until(session_pb2.SESSION_STATE_CANCELLED, session_pb2.SESSION_STATE_CANCELLED)


@pytest.mark.demonstration
async def test_a_run_that_takes_too_long_ends_with_its_steps(client: Client) -> None:
    of = workflow("steps { step_id: 'long' generate {} }")
    of.steps[0].generate.settings.MergeFrom(
        generation_pb2.GenerationSettings(model_id="tiny", steps=150, image_count=9)
    )
    request = run_request(of)
    request.options.run_timeout.FromSeconds(1)
    events, refusal = await refused(client, request)
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    (step,) = await children(client, events)
    assert step.state == session_pb2.SESSION_STATE_CANCELLED
    of.steps[0].run_timeout.FromSeconds(1)
    _, refusal = await refused(client, run_request(of))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refusal.metadata["step_id"] == "long"


KEEP = """
    parameters { name: 'project' kind: VALUE_KIND_TEXT }
    parameters { name: 'given' kind: VALUE_KIND_IMAGES }
    steps {
      step_id: 'look' verify {}
      bindings { input: 'images' parameter: 'given' }
    }
    steps {
      step_id: 'keep'
      store { pinned: true retention { seconds: 3600 } labels { key: 'stage' value: 'kept' } }
      condition { output { step_id: 'look' kind: STEP_OUTPUT_KIND_TRUSTED } negated: NEGATED }
      bindings { input: 'images' parameter: 'given' }
      bindings { input: 'labels.project' parameter: 'project' }
    }
"""


async def test_pictures_that_nobody_signed_are_told_and_kept(
    client: Client, pictures: list[str]
) -> None:
    given = workflow_pb2.WorkflowValue()
    given.images.images.extend(common_pb2.InputImage(artifact_id=each) for each in pictures)
    wanted = workflow(KEEP.replace("NEGATED", "true"))

    events = await run(client, run_request(wanted, project="sky", given=given))

    done = events[-1].completed
    assert [image.artifact_id for image in done.images] == pictures
    assert [image.item_id for image in done.images] == ["keep", "keep"]
    for artifact_id in pictures:
        request = artifact_pb2.GetArtifactRequest(artifact_id=artifact_id)
        answer = await client.artifact.GetArtifact(request, metadata=client.metadata)
        assert answer.artifact.pinned
        assert dict(answer.artifact.labels) == {"stage": "kept", "project": "sky"}
        undone = artifact_pb2.UpdateArtifactRequest(artifact_id=artifact_id, pinned=False)
        await client.artifact.UpdateArtifact(undone, metadata=client.metadata)

    wanted = workflow(KEEP.replace("NEGATED", "false"))
    events = await run(client, run_request(wanted, project="sky", given=given))
    assert not events[-1].completed.images


async def test_what_cannot_be_looked_at_or_kept_is_told_with_its_place(
    client: Client, pictures: list[str]
) -> None:
    given = workflow_pb2.WorkflowValue()
    given.images.images.add(inline=b"no file of the server's")
    wanted = workflow(KEEP.replace("NEGATED", "true"))
    wanted.steps[1].store.retention.seconds = 1
    wanted.steps[1].store.labels["a b"] = "x" * 129
    wanted.steps.add(step_id="nothing").store.SetInParent()

    _, refusal = await refused(client, run_request(wanted, project="sky", given=given))

    assert set(refusal.fields) == {
        "workflow.steps[1].store.retention",
        "workflow.steps[1].store.labels",
        "workflow.steps[2].store.images",
    }
    wanted = workflow(KEEP.replace("NEGATED", "true"))
    _, refusal = await refused(client, run_request(wanted, project="sky", given=given))
    assert list(refusal.fields) == ["workflow.steps[1].store.images[0].inline"]
    given.images.images[0].artifact_id = "0" * 64
    _, refusal = await refused(client, run_request(wanted, project="sky", given=given))
    assert (refusal.code, refusal.reason) == (
        *(grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND"),
    )
    assert refusal.metadata["step_id"] == "look"
