"""The workflows of ProcessingService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from deviceops.v1 import processing_pb2_grpc, workflow_pb2
from domains.clients import caller
from domains.errors import InvalidArgument
from domains.processing.workflows.convert.answers import judgement_to_proto
from domains.processing.workflows.convert.graphs import check_new, stored_to_proto
from domains.processing.workflows.convert.running import WorkflowRequests
from domains.processing.workflows.core.store import WorkflowStore
from domains.session.convert import SessionStreams

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True)
class WorkflowParts:
    """What calls about workflows are answered with."""

    store: WorkflowStore
    requests: WorkflowRequests
    streams: SessionStreams


class WorkflowCalls(processing_pb2_grpc.ProcessingServiceServicer):
    """The calls about workflows.

    Args:
        workflows: What answers them.
    """

    def __init__(self, workflows: WorkflowParts) -> None:
        self._of_workflows = workflows

    async def ListWorkflows(
        self, request: workflow_pb2.ListWorkflowsRequest, context: Context
    ) -> workflow_pb2.ListWorkflowsResponse:
        found = self._of_workflows.store.listed(
            caller(),
            request.owner,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        page = found.converted(partial(stored_to_proto, full=False))
        return workflow_pb2.ListWorkflowsResponse(
            workflows=page.items, next_page_token=page.next_page_token
        )

    async def GetWorkflow(
        self, request: workflow_pb2.GetWorkflowRequest, context: Context
    ) -> workflow_pb2.GetWorkflowResponse:
        found = self._of_workflows.store.get(request.workflow_id, caller())
        full = request.view != workflow_pb2.WORKFLOW_VIEW_BASIC
        return workflow_pb2.GetWorkflowResponse(workflow=stored_to_proto(found, full=full))

    async def CreateWorkflow(
        self, request: workflow_pb2.CreateWorkflowRequest, context: Context
    ) -> workflow_pb2.CreateWorkflowResponse:
        await self._check(request)
        stored = await self._of_workflows.store.create(
            request.workflow.workflow_id,
            caller().name,
            request.workflow.SerializeToString(deterministic=True),
        )
        return workflow_pb2.CreateWorkflowResponse(workflow=stored_to_proto(stored))

    async def UpdateWorkflow(
        self, request: workflow_pb2.UpdateWorkflowRequest, context: Context
    ) -> workflow_pb2.UpdateWorkflowResponse:
        await self._check(request)
        stored = await self._of_workflows.store.update(
            request.workflow.workflow_id,
            caller(),
            request.workflow.SerializeToString(deterministic=True),
            request.expected_version,
        )
        return workflow_pb2.UpdateWorkflowResponse(workflow=stored_to_proto(stored))

    async def _check(
        self, request: workflow_pb2.CreateWorkflowRequest | workflow_pb2.UpdateWorkflowRequest
    ) -> None:
        found = await self._of_workflows.requests.judged(request, caller())
        InvalidArgument.check(*check_new(request.workflow), *found.violations)

    async def DeleteWorkflow(
        self, request: workflow_pb2.DeleteWorkflowRequest, context: Context
    ) -> workflow_pb2.DeleteWorkflowResponse:
        await self._of_workflows.store.delete(
            request.workflow_id, caller(), request.expected_version
        )
        return workflow_pb2.DeleteWorkflowResponse()

    async def ValidateWorkflow(
        self, request: workflow_pb2.ValidateWorkflowRequest, context: Context
    ) -> workflow_pb2.ValidateWorkflowResponse:
        requests = self._of_workflows.requests
        viewer = caller()
        found = await requests.judged(requests.inlined(request, viewer), viewer)
        return judgement_to_proto(found)

    def RunWorkflow(
        self, request: workflow_pb2.RunWorkflowRequest, context: Context
    ) -> AsyncIterator[workflow_pb2.RunWorkflowResponse]:
        wanted = self._of_workflows.requests.asked(request)
        return self._of_workflows.streams.run(
            wanted, context, workflow_pb2.RunWorkflowResponse, request.delivery
        )
