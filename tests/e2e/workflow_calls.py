"""Runs of workflows over a real channel, as tests write and look at them."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf import text_format

from deviceops.v1 import event_pb2, workflow_pb2
from tests.e2e.errors import Refusal, read
from tests.running import Client

Events = list[event_pb2.SessionEvent]


def workflow(text: str) -> workflow_pb2.Workflow:
    """A workflow written in the contract's text format."""
    return text_format.Parse(text, workflow_pb2.Workflow())


def value(given: object) -> workflow_pb2.WorkflowValue:
    """An argument: pictures by the ids of their artifacts, texts, whole and other numbers."""
    match given:
        case workflow_pb2.WorkflowValue():
            return given
        case list():
            made = workflow_pb2.WorkflowValue()
            for artifact_id in given:
                made.images.images.add(artifact_id=artifact_id)
            return made
        case int():
            return workflow_pb2.WorkflowValue(integer=given)
        case float():
            return workflow_pb2.WorkflowValue(number=given)
    return workflow_pb2.WorkflowValue(text=str(given))


def run_request(
    of: str | workflow_pb2.Workflow, **arguments: object
) -> workflow_pb2.RunWorkflowRequest:
    """A run of a stored workflow by its name, or of one that is given."""
    values = {name: value(each) for name, each in arguments.items()}
    if isinstance(of, str):
        return workflow_pb2.RunWorkflowRequest(workflow_id=of, arguments=values)
    return workflow_pb2.RunWorkflowRequest(workflow=of, arguments=values)


async def run(client: Client, request: workflow_pb2.RunWorkflowRequest) -> Events:
    """Every event of a run that completes."""
    call = client.processing.RunWorkflow(request, metadata=client.metadata)
    return [response.event async for response in call]


async def refused(
    client: Client, request: workflow_pb2.RunWorkflowRequest
) -> tuple[Events, Refusal]:
    """The events of a run that does not complete, and how its call ended."""
    events: Events = []
    try:
        async for response in client.processing.RunWorkflow(request, metadata=client.metadata):
            events.append(response.event)
    except grpc.aio.AioRpcError as error:
        return events, read(error)
    raise AssertionError("the run completed")


def ended(events: Events) -> dict[str, Any]:
    """What item_finished said of each step, by its name; of runs of one by `step#index`."""
    found = {}
    for event in events:
        if event.HasField("item_finished"):
            run = f"#{event.run_index}" if event.HasField("run_index") else ""
            found[event.item_id + run] = event.item_finished
    return found
