"""Workflows looked at and run, from the requests that ask for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from deviceops.v1 import workflow_pb2
from domains.clients import Caller, caller
from domains.conversions import digest
from domains.errors import FeatureNotBuilt, FieldViolation, InvalidArgument, Reason
from domains.processing.workflows.convert.dry_runs import DryRuns, Verdict
from domains.processing.workflows.convert.graphs import (
    arguments_from_proto,
    graph_from_proto,
    stored_to_proto,
)
from domains.processing.workflows.convert.limits import check_limits
from domains.processing.workflows.convert.requests import MessageSteps
from domains.processing.workflows.convert.works import StepWorks, stand_in
from domains.processing.workflows.core.judging import judge
from domains.processing.workflows.core.needs import costs_of, needs_of
from domains.processing.workflows.core.rules import check_graph
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.store import WorkflowStore
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.processing.workflows.core.values import check_arguments, filled
from domains.processing.workflows.errors import WorkflowNotFound
from domains.processing.workflows.types import Judgement
from domains.session.convert import Starters, options_from_proto
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.types import Phase, SessionKind

_Asking = workflow_pb2.RunWorkflowRequest | workflow_pb2.ValidateWorkflowRequest


@dataclass(frozen=True)
class WorkflowRequests:
    """Makes sessions of requests to run workflows, and judges those.

    Args:
        store: The workflows that there are.
        starters: Make sessions of the steps.
        services: Where those are begun, found and read.
        verdict: Judges generations.
    """

    store: WorkflowStore
    starters: Starters
    services: SessionServices
    verdict: Verdict

    async def judged(
        self,
        workflow: workflow_pb2.Workflow,
        path: str,
        run: workflow_pb2.RunWorkflowRequest | None,
    ) -> Judgement:
        """What running a workflow would come to.

        Args:
            workflow: Which.
            path: Where it stands in the request.
            run: What a run of it is given; None where that is not looked at.
        """
        placement = workflow_pb2.RunWorkflowRequest().placement
        works = StepWorks(workflow, placement if run is None else run.placement)
        also = [*check_limits(workflow, path)]
        arguments = None
        if run is not None:
            arguments = arguments_from_proto(run.arguments)
            for name, value in run.arguments.items():
                also += check_limits(value, f"arguments[{name!r}]")
        return await judge(
            graph_from_proto(workflow),
            DryRuns(works, path, self.starters, self.verdict, self.inlined),
            stand_in,
            path=path,
            arguments=arguments,
            also=also,
        )

    def source(self, request: _Asking, viewer: Caller) -> workflow_pb2.Workflow:
        """The workflow that a request is about.

        Raises:
            WorkflowNotFound: It names one that there is not.
            InvalidArgument: It names none and holds none.
        """
        if request.HasField("workflow"):
            return request.workflow
        if not request.workflow_id:
            rule = "Must be set, or workflow."
            violation = FieldViolation("workflow_id", Reason.REQUIRED_FIELD_MISSING, rule)
            raise InvalidArgument.of(violation)
        return stored_to_proto(self.store.get(request.workflow_id, viewer))

    def inlined(
        self, request: workflow_pb2.RunWorkflowRequest, viewer: Caller
    ) -> workflow_pb2.RunWorkflowRequest:
        """The request with the workflow itself: whatever becomes of the stored one, the run
        keeps it.

        Raises:
            DomainError: As `source`.
        """
        whole = workflow_pb2.RunWorkflowRequest()
        whole.CopyFrom(request)
        whole.workflow.CopyFrom(self.source(request, viewer))
        return whole

    def asked(self, request: workflow_pb2.RunWorkflowRequest) -> SessionRequest:
        """A run that a client asks for, looked at as a whole before it is accepted."""
        viewer = caller()
        options, stands_for = options_from_proto(request.options), digest(request)
        try:
            whole = self.inlined(request, viewer)
        except WorkflowNotFound as error:
            # An earlier call may have begun it, when its workflow was still there.
            return SessionRequest(options, stands_for, partial(_refuse, error))

        async def prepare() -> SessionPlan:
            judgement = await self.judged(whole.workflow, "workflow", whole)
            InvalidArgument.check(*check_options(options, "options"), *judgement.violations)
            if judgement.unbuilt:
                raise FeatureNotBuilt(judgement.unbuilt)
            if judgement.error is not None:
                raise judgement.error
            return self._plan(whole, judgement)

        made = self.starters.request_of(whole)
        return replace(made, digest=stands_for, prepare=prepare)

    def session(self, request: workflow_pb2.RunWorkflowRequest) -> SessionRequest:
        """A run of the workflow that the request holds; its steps are looked at when their turn
        comes.

        Preparing it raises:
            InvalidArgument: The workflow, or what it is given, breaks a rule.
        """
        options = options_from_proto(request.options)

        async def prepare() -> SessionPlan:
            graph = graph_from_proto(request.workflow)
            works = StepWorks(request.workflow, request.placement)
            arguments = arguments_from_proto(request.arguments)
            InvalidArgument.check(
                *check_options(options, "options"),
                *check_graph(graph, works.target, "workflow"),
                *check_arguments(graph, arguments, "arguments"),
            )
            return self._plan(request, Judgement())

        return SessionRequest(options, digest(request), prepare, again=begun_anew(prepare))

    def _plan(
        self, request: workflow_pb2.RunWorkflowRequest, judgement: Judgement
    ) -> SessionPlan:
        graph = graph_from_proto(request.workflow)
        turns = WorkflowTurns(
            graph,
            filled(graph, arguments_from_proto(request.arguments)),
            MessageSteps(request, self.starters, self.inlined),
            self.services,
            costs_of(graph, judgement.forecasts),
            needs_of(judgement.forecasts).seconds,
        )
        return SessionPlan(
            kind=SessionKind.WORKFLOW,
            device_id="",
            expected_phases=(Phase.QUEUED, Phase.RUNNING_STEPS),
            work=turns.work,
            pause=turns.pause,
        )


async def _refuse(error: WorkflowNotFound) -> SessionPlan:
    raise error
