"""Runs of workflows over real sessions, whose steps do what a test says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from domains.errors import Failure, Reason, Unavailable
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.processing.workflows.types import (
    Arguments,
    Binding,
    Condition,
    Ended,
    Graph,
    Inputs,
    Step,
    StepOutput,
)
from domains.session.core.about import Parent
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import ImageResult, Outcome, Phase, SessionKind, WorkOptions
from domains.session.types.named import NOTHING_NAMED, Named
from domains.values import ImageFileFormat
from server.errors import describe_failure
from tests.clocks import SteeredTime
from tests.domains.sessions import Artifacts, changes_of

Does = Callable[[Session, Inputs], Awaitable[Outcome | None]]
_IDS = iter(range(10**9))


class Lost(Unavailable):
    """What steps of tests fail with."""

    def __init__(self) -> None:
        super().__init__("The device is gone.", reason=Reason.DEVICE_LOST)


def image(index: int = 0, seed: int = 7) -> ImageResult:
    """A picture unlike all others."""
    name = f"{next(_IDS):064x}"
    return ImageResult(index, seed, name, ImageFileFormat.PNG, 256, 256, 100)


async def draw(session: Session, inputs: Inputs) -> None:
    """What a step does about which a test says nothing: one picture."""
    session.finish_image(image())


async def fail(session: Session, inputs: Inputs) -> None:
    """What a step does that fails."""
    raise Lost


def step(
    name: str,
    *needs: str,
    work: str = "generate",
    condition: Condition | None = None,
    **more: object,
) -> Step:
    """A step whose list of pictures is bound to those of others."""
    bindings = tuple(Binding("images", StepOutput(each)) for each in needs)
    made = Step(name, work, bindings, condition)
    return replace(made, **more)  # type: ignore[arg-type]


def graph(*steps: Step) -> Graph:
    return Graph("test", (), steps)


@dataclass
class Steps:
    """Steps as sessions; see the port `StepRequests`. It counts the runs of each and keeps what
    they were given."""

    steps: Sequence[Step]
    does: dict[str, Does] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    given: dict[str, Inputs] = field(default_factory=dict)
    own: dict[str, Callable[[], Awaitable[Ended]]] = field(default_factory=dict)
    pauses: bool = False

    def request(self, place: int, inputs: Inputs, run: Session, name: str) -> SessionRequest:
        does = self.does.get(self.steps[place].step_id, draw)

        async def work(session: Session) -> Outcome | None:
            self.counts[name] += 1
            self.given[name] = inputs
            return await does(session, inputs)

        async def prepare() -> SessionPlan:
            return SessionPlan(SessionKind.GENERATION, "", (Phase.QUEUED,), work)

        parent = Parent(run.session_id, name)
        return SessionRequest(WorkOptions(), b"", prepare, run.owner, parent)

    async def do(self, place: int, inputs: Inputs, run: Session) -> Ended:
        name = self.steps[place].step_id
        self.counts[name] += 1
        self.given[name] = inputs
        return await self.own[name]()

    def explained(self, place: int, failure: Failure) -> Failure:
        return failure.renamed(lambda field: f"workflow.steps[{place}].{field}")


@dataclass
class Place:
    """Where runs are begun."""

    sessions: Sessions
    services: SessionServices

    async def begin(
        self,
        of: Graph,
        steps: Steps,
        values: Arguments | None = None,
        *,
        named: Named = NOTHING_NAMED,
    ) -> tuple[Session, WorkflowTurns]:
        """A run's session, which works by itself and whose request names these."""
        costs = {each.step_id: 1.0 for each in of.steps}
        turns = WorkflowTurns(of, values or {}, steps, self.services, costs)

        async def prepare() -> SessionPlan:
            return SessionPlan(
                SessionKind.WORKFLOW,
                "",
                (Phase.QUEUED,),
                turns.work,
                pause=turns.pause,
                ended=turns.ended,
            )

        request = SessionRequest(WorkOptions(), b"", prepare, "mary", named=named)
        return await self.services.runner.begin(request), turns

    async def end(self, of: Graph, steps: Steps, values: Arguments | None = None) -> Session:
        """A run that is over."""
        session, _ = await self.begin(of, steps, values)
        async with asyncio.timeout(20):
            await session.over()
        return session


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """Sessions in memory, with room for all that a test begins."""
    clock = SteeredTime().clock
    sessions = Sessions(
        describe=describe_failure,
        queue_length=1_000,
        slice_seconds=30.0,
        retention=timedelta(seconds=600),
        kept=10_000,
        changes=changes_of(clock),
        clock=clock,
    )
    reader = SessionReader(Artifacts(), heartbeat_seconds=5, clock=clock)
    yield Place(sessions, SessionServices(sessions, SessionRunner(sessions, reader), reader))
    await sessions.stop(0)
