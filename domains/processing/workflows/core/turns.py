"""The work of a run's session, over all its turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from domains.processing.workflows.core.run import WorkflowRun
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.ports import StepRequests
from domains.processing.workflows.types import Arguments, Graph
from domains.session.core.session import Session
from domains.session.types import Outcome


@dataclass(eq=False)
class WorkflowTurns:
    """What a run does when its turn comes, at first and after each pause.

    `costs` are how much there is to do in each step; `seconds` are how long all of them take,
    None where nobody knows. `over` is called once the run is.
    """

    graph: Graph
    values: Arguments
    requests: StepRequests
    services: SessionServices
    costs: Mapping[str, float]
    seconds: float | None = None
    over: Callable[[], None] = lambda: None
    _run: WorkflowRun | None = field(default=None, init=False)

    async def work(self, session: Session) -> Outcome:
        """Run what is left; see `WorkflowRun.end`."""
        session.expect_end(self.seconds)
        self._run = WorkflowRun(
            self.graph, self.values, session, self.requests, self.services, self.costs
        )
        return await self._run.end()

    def pause(self, session: Session) -> None:
        """Have it stop between two steps."""
        if self._run is not None:
            self._run.pause()

    def ended(self, session: Session) -> None:
        """The run is over, also where its turn never came again: nothing of it goes on."""
        self.services.cancel(session)
        self.over()
