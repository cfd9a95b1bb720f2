"""Steps of a run as sessions of the services that do them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deviceops.v1 import session_pb2, workflow_pb2
from domains.clients import Caller, Role, calling
from domains.errors import Failure
from domains.processing.workflows.convert.graphs import run_timeout
from domains.processing.workflows.convert.own_works import OwnMeans, do_own
from domains.processing.workflows.convert.works import StepWorks
from domains.processing.workflows.types import Ended, Inputs
from domains.session.convert import Starters, options_to_proto
from domains.session.core.about import Parent
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.types import OnDisconnect, WorkOptions

Inlined = Callable[[workflow_pb2.RunWorkflowRequest, Caller], workflow_pb2.RunWorkflowRequest]
"""A run of a stored workflow as one of that workflow itself."""


class MessageSteps:
    """The steps of one run; see the port `StepRequests`.

    Args:
        request: The run, with its workflow in it.
        starters: Make sessions of requests.
        inlined: Finds stored workflows, for steps that run one.
        means: With what the run does steps of its own.
    """

    def __init__(
        self,
        request: workflow_pb2.RunWorkflowRequest,
        starters: Starters,
        inlined: Inlined,
        means: OwnMeans,
    ) -> None:
        self._request = request
        self._means = means
        self._works = StepWorks(request.workflow, request.placement)
        self._starters, self._inlined = starters, inlined

    def request(self, place: int, inputs: Inputs, run: Session, name: str) -> SessionRequest:
        """A step as a session of the run; see the port."""
        client = Caller(run.owner, Role.RUN)
        delivery = session_pb2.DeliveryOptions()
        if self._request.delivery.HasField("previews"):
            delivery.previews.CopyFrom(self._request.delivery.previews)
        options = self._options(place, run)
        message = self._works.request(place, inputs, options_to_proto(options), delivery)
        if isinstance(message, workflow_pb2.RunWorkflowRequest):
            message = self._inlined(message, client)
        made = self._starters.request_of(message)

        async def prepare() -> SessionPlan:
            with calling(client):  # whose pictures they are
                return await made.prepare()

        parent = Parent(run.session_id, name)
        return replace(made, prepare=prepare, owner=run.owner, parent=parent)

    async def do(self, place: int, inputs: Inputs, run: Session) -> Ended:
        """A step that has no session; see the port."""
        step = self._works.own(place, inputs)
        with calling(Caller(run.owner, Role.RUN)):
            longest = run_timeout(self._request.workflow.steps[place])
            return await do_own(step, self._means, longest)

    def explained(self, place: int, failure: Failure) -> Failure:
        """The failure with fields of the workflow; see the port."""
        return failure.renamed(lambda field: f"workflow.{self._works.named(place, field)}")

    def _options(self, place: int, run: Session) -> WorkOptions:
        """Those of a step's session. It is kept as long as the run may take, since a server
        that takes the run up again knows by it that the step is done."""
        own, default = run.options, WorkOptions()
        seconds = run_timeout(self._request.workflow.steps[place])
        kept = max(own.run_timeout_seconds, own.retention_seconds or 0.0, 60.0)
        # Where the next server would not go on with the run, it shall not with its steps.
        lasts = own.on_disconnect is OnDisconnect.DETACH or own.request_id
        return replace(
            default,
            priority=own.priority,
            run_timeout_seconds=default.run_timeout_seconds if seconds is None else seconds,
            on_disconnect=OnDisconnect.DETACH if lasts else OnDisconnect.CANCEL,
            tags=own.tags,
            retention_seconds=kept,
        )
