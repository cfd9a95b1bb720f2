"""The work of a run's session, over all its turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domains.processing.workflows.core.run import WorkflowRun
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.ports import StepRequests
from domains.processing.workflows.types import NOTHING_NAMED, Arguments, Graph, Named
from domains.session.core.session import Session
from domains.session.types import Outcome


@dataclass(eq=False)
class WorkflowTurns:
    """What a run does when its turn comes, at first and after each pause.

    `costs` are how much there is to do in each step; `seconds` are how long all of them take,
    None where nobody knows. `named` is what the request names, and `owner` whose it is.
    `session` is the run's, once its turn has come, and `over` whether it has ended.
    """

    graph: Graph
    values: Arguments
    requests: StepRequests
    services: SessionServices
    costs: Mapping[str, float]
    seconds: float | None = None
    named: Named = NOTHING_NAMED
    owner: str = ""
    session: Session | None = field(default=None, init=False)
    over: bool = field(default=False, init=False)
    _run: WorkflowRun | None = field(default=None, init=False)

    async def work(self, session: Session) -> Outcome:
        """Run what is left; see `WorkflowRun.end`."""
        self.session = session
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
        self.over = True
        self.services.cancel(session)
