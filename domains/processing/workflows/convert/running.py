"""Workflows looked at and run, from the requests that ask for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from deviceops.v1 import device_info_pb2, workflow_pb2
from domains.clients import Caller, caller
from domains.conversions import digest
from domains.errors import (
    DomainError,
    FeatureNotBuilt,
    FieldViolation,
    InvalidArgument,
    Reason,
)
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
from domains.processing.workflows.types import Judgement
from domains.session.convert import Starters, options_from_proto
from domains.session.core.options import check_options
from domains.session.core.plan import SessionPlan, SessionRequest, begun_anew
from domains.session.types import Phase, SessionKind, WorkOptions

R = TypeVar("R", workflow_pb2.RunWorkflowRequest, workflow_pb2.ValidateWorkflowRequest)
Asking = (
    workflow_pb2.RunWorkflowRequest
    | workflow_pb2.ValidateWorkflowRequest
    | workflow_pb2.CreateWorkflowRequest
    | workflow_pb2.UpdateWorkflowRequest
)
_PATH = "workflow"
"""Where the workflow stands in all of them; a stored one is named as if it stood there."""
_ANYWHERE = device_info_pb2.DevicePlacement()


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

    async def judged(self, request: Asking) -> Judgement:
        """What running a workflow would come to, and what is wrong with the request.

        Args:
            request: It holds a workflow. What a run is given is looked at where it is to run,
                or to be checked as if it were.

        Raises:
            DomainError: As `source`.
        """
        placement, arguments = _ANYWHERE, None
        match request:
            case workflow_pb2.RunWorkflowRequest():
                placement = request.placement
                arguments = arguments_from_proto(request.arguments)
            case workflow_pb2.ValidateWorkflowRequest() if request.check_arguments:
                arguments = arguments_from_proto(request.arguments)
        works = StepWorks(request.workflow, placement)
        return await judge(
            graph_from_proto(request.workflow),
            DryRuns(works, _PATH, self.starters, self.verdict, self.inlined),
            stand_in,
            path=_PATH,
            arguments=arguments,
            also=check_limits(request),
        )

    def inlined(self, request: R, viewer: Caller) -> R:
        """The request with the workflow itself: whatever becomes of the stored one, a run keeps
        it.

        Raises:
            WorkflowNotFound: It names one that there is not.
            InvalidArgument: It names none and holds none.
        """
        whole = type(request)()
        whole.CopyFrom(request)
        if request.HasField("workflow"):
            return whole
        if not request.workflow_id:
            rule = "Must be set, or workflow."
            missing = FieldViolation("workflow_id", Reason.REQUIRED_FIELD_MISSING, rule)
            raise InvalidArgument.of(missing, *check_limits(request))
        whole.workflow.CopyFrom(stored_to_proto(self.store.get(request.workflow_id, viewer)))
        return whole

    def asked(self, request: workflow_pb2.RunWorkflowRequest) -> SessionRequest:
        """A run that a client asks for, looked at as a whole before it is accepted."""
        viewer = caller()
        options, stands_for = options_from_proto(request.options), digest(request)
        try:
            whole = self.inlined(request, viewer)
        except DomainError as error:
            # An earlier call may have begun it, when its workflow was still there.
            return SessionRequest(options, stands_for, partial(_refuse, error, options))

        async def prepare() -> SessionPlan:
            judgement = await self.judged(whole)
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
            ended=turns.ended,
        )


async def _refuse(error: DomainError, options: WorkOptions) -> SessionPlan:
    broken = error.violations if isinstance(error, InvalidArgument) else ()
    InvalidArgument.check(*broken, *check_options(options, "options"))
    raise error
