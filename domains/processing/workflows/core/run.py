"""A run of a workflow: every step when what it needs is there, to the end of the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence

from msgspec import structs

from domains.codec import one_line
from domains.errors import Failure
from domains.processing.workflows.core.graph import sorter
from domains.processing.workflows.core.outputs import (
    barred,
    fanned_out,
    holds,
    inputs_of,
    together,
)
from domains.processing.workflows.core.own_steps import OwnStepRun
from domains.processing.workflows.core.stepping import SessionServices, StepRun
from domains.processing.workflows.ports import StepRequests
from domains.processing.workflows.types import (
    OWN_WORKS,
    Arguments,
    Ended,
    Ending,
    FailurePolicy,
    Graph,
    Step,
)
from domains.session.core.children import paused
from domains.session.core.progress import Progress
from domains.session.core.session import Session
from domains.session.errors import SessionFailed
from domains.session.jobs import WorkPaused
from domains.session.types import (
    Completed,
    ItemFinished,
    Outcome,
    Phase,
    PhaseStarted,
)
from domains.session.types.runs import run_name, run_of

_LOOK_SECONDS = 0.05
_MOST_AT_ONCE = 16
"""Steps of a run that have a session; more would leave its client no room in queues."""
_STOPPED = "Another step of the workflow failed."


class WorkflowProgress(Progress):
    """The done share of a run, by the expected cost of its steps."""

    def __init__(self, run: WorkflowRun) -> None:
        super().__init__(0)
        self._run = run

    @property
    def share(self) -> float:
        """From 0 to just below 1."""
        return min(self._run.share, 0.99)


class WorkflowRun:
    """One turn of a run: from its start, or from where an earlier turn or server left it.

    What is there of it are the sessions of its steps and the entries of its log: a step whose
    session has ended is not run again, one whose session waits or works is followed.

    Args:
        graph: The workflow; it breaks no rule.
        values: Those of its parameters.
        session: The session of the run.
        requests: Steps as sessions.
        services: Where those are begun.
        costs: How much there is to do in each step, all of one unit.
    """

    def __init__(
        self,
        graph: Graph,
        values: Arguments,
        session: Session,
        requests: StepRequests,
        services: SessionServices,
        costs: Mapping[str, float],
    ) -> None:
        self._graph, self._values, self._session = graph, values, session
        self._requests, self._services, self._costs = requests, services, costs
        self._places = {step.step_id: place for place, step in enumerate(graph.steps)}
        self._ended: dict[str, Ended] = {}
        self._runs: dict[str, list[StepRun]] = {}
        self._failures: list[Failure] = []
        self._pausing, self._open = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._in_order, self._at_once = asyncio.Lock(), asyncio.Semaphore(_MOST_AT_ONCE)
        told = [each for each in session.log.entries() if isinstance(each, ItemFinished)]
        self._told = {each.item_id for each in told}
        self._failed = max((each.failed for each in told), default=0)
        session.done = WorkflowProgress(self)

    @property
    def share(self) -> float:
        """How much of the whole is done, from 0 to 1."""
        whole = sum(self._costs.values())
        done = sum(cost * self._share_of(name) for name, cost in self._costs.items())
        return done / whole if whole else 0.0

    def _share_of(self, name: str) -> float:
        runs = self._runs.get(name, [])
        if name in self._ended or not runs:
            return float(name in self._ended)
        return sum(run.progress for run in runs) / len(runs)

    def pause(self) -> None:
        """Stop: what waits is paused, what runs where it can be, else when it has ended."""
        self._open.clear()
        self._pausing.set()

    async def end(self) -> Outcome:
        """Run what is left.

        Raises:
            SessionFailed: A step failed whose failure is the run's.
            WorkPaused: It was to pause, and nothing of it runs any more.
        """
        self._session.record(PhaseStarted(Phase.RUNNING_STEPS))
        order = sorter(self._graph.steps)
        tasks: dict[asyncio.Task[Ended], str] = {}
        try:
            while order.is_active():
                for name in order.get_ready():
                    step = self._graph.steps[self._places[name]]
                    tasks[asyncio.create_task(self._step(step))] = name
                await self._one_of(tasks)
                for task in [task for task in tasks if task.done()]:
                    name = tasks.pop(task)
                    self._ended[name] = task.result()
                    order.done(name)
                    self._judge(name)
        except WorkPaused:
            raise
        except BaseException as error:
            why = _STOPPED if isinstance(error, SessionFailed) else ""
            await self._stop(tasks, why)
            raise
        finally:
            await _end(tasks)
        if self._failures:
            raise SessionFailed(self._failures[0])
        return Outcome()

    async def _one_of(self, tasks: Mapping[asyncio.Task[Ended], str]) -> None:
        """Return once a task is done.

        Raises:
            WorkPaused: The run was to pause, and no session of it runs.
        """
        pausing = asyncio.ensure_future(self._pausing.wait())
        try:
            await asyncio.wait({*tasks, pausing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pausing.cancel()
        while self._pausing.is_set() and not any(task.done() for task in tasks):
            if paused(self._services.sessions, self._live(), "", self._session.owner):
                raise WorkPaused
            await asyncio.wait([*tasks], timeout=_LOOK_SECONDS)

    def _live(self) -> list[Session]:
        """Sessions of steps that have not ended."""
        return self._services.live(self._session)

    async def _stop(self, tasks: Mapping[asyncio.Task[Ended], str], why: str) -> None:
        """Begin nothing more, cancel what runs, and return once it has ended."""
        await _end(tasks)
        if not self._session.suspended:  # else the next server goes on with all of it
            for child in self._services.cancel(self._session, why):
                await child.over()

    async def _step(self, step: Step) -> Ended:
        """One step, in its turn, to its end."""
        if barred(step, self._ended):
            return self._tell(step.step_id, Ended(Ending.BARRED))
        if not holds(step.condition, self._ended):
            return self._tell(step.step_id, Ended(Ending.SKIPPED))
        inputs = inputs_of(step, self._values, self._ended)
        if inputs is None:
            return self._tell(step.step_id, Ended(Ending.SKIPPED))
        kind = OwnStepRun if step.work in OWN_WORKS else StepRun
        runs = [
            kind(
                self._services,
                self._requests,
                self._session,
                step,
                self._places[step.step_id],
                run_name(step.step_id, index) if step.for_each else step.step_id,
                given,
                step.step_id in self._graph.results,
                self._open,
                self._in_order,
            )
            for index, given in enumerate(fanned_out(step, inputs))
        ]
        self._runs[step.step_id] = runs
        stop = step.on_failure is FailurePolicy.STOP
        ended = together(await _all([self._run(run) for run in runs], until_failure=stop))
        failed = next((run for run in runs if run.failure is not None), None)
        told = runs[0] if runs and not step.for_each else None
        return self._tell(step.step_id, ended, told, failed)

    async def _run(self, run: StepRun) -> Ended:
        async with self._at_once:
            ended = await run.end()
        return self._tell(run.name, ended, run, run) if run.step.for_each else ended

    def _tell(
        self,
        name: str,
        ended: Ended,
        run: StepRun | None = None,
        failed: StepRun | None = None,
    ) -> Ended:
        """Write down that a step, or a run of one, has ended; `run` is its only one."""
        if name not in self._told:
            self._told.add(name)
            steps = [each for each in self._told if run_of(each)[1] is None]
            failure = failed.failure if failed is not None else None
            self._failed += failure is not None and run_of(name)[1] is None
            child = run.child if run is not None else None
            end = child.log.terminal if child is not None else None
            self._session.finish_item(
                ItemFinished(
                    name,
                    len(steps),
                    self._failed,
                    len(self._graph.steps),
                    images=ended.images if run is not None else (),
                    failure=failure,
                    degradations=end.degradations if isinstance(end, Completed) else (),
                    session_id=child.session_id if child is not None else "",
                )
            )
        return ended

    def _judge(self, name: str) -> None:
        """Do what is to be done when a step has failed.

        Raises:
            SessionFailed: The run fails with it, now.
        """
        policy = self._graph.steps[self._places[name]].on_failure
        failed = [run for run in self._runs.get(name, []) if run.failure is not None]
        if not failed or policy is FailurePolicy.IGNORE:
            return
        failure = self._failure(failed[0])
        if policy is FailurePolicy.STOP:
            raise SessionFailed(failure)
        self._failures.append(failure)

    def _failure(self, run: StepRun) -> Failure:
        """The failure of a step as that of the whole: what it was stays, and where is added."""
        assert run.failure is not None
        failure = self._requests.explained(run.place, run.failure)
        step_id, index = run_of(run.name)
        inner = failure.metadata.get("step_id")
        facts = {**failure.metadata, "step_id": f"{step_id}/{inner}" if inner else step_id}
        if index is not None:
            facts["run_index"] = str(index)
        if run.child is not None:
            facts.setdefault("session_id", run.child.session_id)
        message = one_line(f"Step {step_id} failed: {failure.message}")
        return structs.replace(failure, message=message, metadata=facts)


async def _all(
    runs: Sequence[Coroutine[None, None, Ended]], *, until_failure: bool
) -> tuple[Ended, ...]:
    """The ends of all, or of those that ended before one failed."""
    tasks = [asyncio.create_task(run) for run in runs]
    left = set(tasks)
    try:
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            failed = any(task.result().ending is Ending.FAILED for task in done)
            if failed and until_failure:
                break
        return tuple(task.result() for task in tasks if task not in left)
    finally:
        await _end(left)


async def _end(tasks: Iterable[asyncio.Task[Ended]]) -> None:
    """Stop what waits for sessions; those go on."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
