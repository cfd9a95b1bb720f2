"""Workflows looked at and run, from the requests that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from deviceops.v1 import device_info_pb2, workflow_pb2
from domains.clients import Caller, Role, caller
from domains.conversions import digest
from domains.errors import (
    DomainError,
    FeatureNotBuilt,
    FieldViolation,
    InvalidArgument,
    Reason,
)
from domains.memory.core.leases import Leases
from domains.processing.workflows.convert.dry_runs import DryRuns, Verdict
from domains.processing.workflows.convert.graphs import (
    arguments_from_proto,
    graph_from_proto,
    stored_to_proto,
)
from domains.processing.workflows.convert.limits import check_limits
from domains.processing.workflows.convert.own_works import OwnMeans
from domains.processing.workflows.convert.requests import MessageSteps
from domains.processing.workflows.convert.works import METHODS, StepWorks, stand_in
from domains.processing.workflows.core.judging import judge
from domains.processing.workflows.core.needs import costs_of, needs_of
from domains.processing.workflows.core.picture_work import PictureWork
from domains.processing.workflows.core.rules import check_graph
from domains.processing.workflows.core.run_memory import RunMemory
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.store import WorkflowStore
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.processing.workflows.core.values import check_arguments, filled
from domains.processing.workflows.errors import StepNeedsRole, WorkflowNotFound
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
        least_role: The least role for a method, `Service/Method`.
        pictures: Does what runs do themselves with pictures.
        leases: Where they take memory.
    """

    store: WorkflowStore
    starters: Starters
    services: SessionServices
    verdict: Verdict
    least_role: Callable[[str], Role | None]
    pictures: PictureWork
    leases: Leases

    async def judged(self, request: Asking, viewer: Caller) -> Judgement:
        """What running a workflow would come to, and what is wrong with the request.

        Args:
            request: It holds a workflow. What a run is given is looked at where it is to run,
                or to be checked as if it were.
            viewer: Who would run it.

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
        found = await judge(
            graph_from_proto(request.workflow),
            DryRuns(works, _PATH, self.starters, self.verdict, self.nested, self.leases),
            stand_in,
            path=_PATH,
            arguments=arguments,
            also=check_limits(request),
        )
        return replace(
            found, error=self._forbidden(request.workflow, viewer.role) or found.error
        )

    def _forbidden(self, workflow: workflow_pb2.Workflow, role: Role) -> StepNeedsRole | None:
        """What a client of that role is told of a step that it may not do by itself."""
        for place, step in enumerate(workflow.steps):
            method = METHODS.get(step.WhichOneof("work") or "")
            needed = None if method is None else self.least_role(method)
            if needed is not None and not role.includes(needed):
                return StepNeedsRole(step.step_id, f"{_PATH}.steps[{place}]", needed)
        return None

    def nested(
        self, request: workflow_pb2.RunWorkflowRequest, viewer: Caller
    ) -> workflow_pb2.RunWorkflowRequest:
        """As `inlined`, for a run within another one: whoever began that, this one may do what
        every client may that runs anything.

        Raises:
            StepNeedsRole: A step of it does more.
            DomainError: As `inlined`.
        """
        whole = self.inlined(request, viewer)
        forbidden = self._forbidden(whole.workflow, Role.RUN)
        if forbidden is not None:
            raise forbidden
        return whole

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
        try:
            stored = self.store.get(request.workflow_id, viewer)
        except WorkflowNotFound:
            InvalidArgument.check(*check_limits(request))
            raise
        whole.workflow.CopyFrom(stored_to_proto(stored))
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
            judgement = await self.judged(whole, viewer)
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
        memory = RunMemory(self.leases)
        means = OwnMeans(self.pictures, memory)
        turns = WorkflowTurns(
            graph,
            filled(graph, arguments_from_proto(request.arguments)),
            MessageSteps(request, self.starters, self.nested, means),
            self.services,
            costs_of(graph, judgement.forecasts),
            needs_of(judgement.forecasts).seconds,
            partial(memory.end, Caller(caller().name, Role.RUN)),
        )
        return SessionPlan(
            kind=SessionKind.WORKFLOW,
            device_id="",
            expected_phases=(Phase.QUEUED, Phase.RUNNING_STEPS),
            work=turns.work,
            pause=turns.pause,
            ended=turns.ended,
            resumes_after_images=True,
        )


async def _refuse(error: DomainError, options: WorkOptions) -> SessionPlan:
    broken = error.violations if isinstance(error, InvalidArgument) else ()
    InvalidArgument.check(*broken, *check_options(options, "options"))
    raise error
