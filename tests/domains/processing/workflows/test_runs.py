"""Runs of workflows: order, outputs, conditions, failures, retries, pauses and cancels."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from domains.errors import Reason
from domains.processing.workflows.core.graph import order
from domains.processing.workflows.core.outputs import holds, together
from domains.processing.workflows.core.stepping import SessionServices
from domains.processing.workflows.core.turns import WorkflowTurns
from domains.processing.workflows.types import (
    Condition,
    Ended,
    Ending,
    FailurePolicy,
    Graph,
    Inputs,
    OutputKind,
    Retries,
    StepOutput,
    ValueKind,
    WorkflowValue,
)
from domains.safety import SafetyAction, SafetyScore, SafetySubject, SafetyVerdict
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.types import (
    Cancelled,
    ImageFinished,
    ImageResult,
    ItemFinished,
    SessionKind,
    SessionState,
    StepFinished,
)
from domains.session.types.runs import run_name
from tests.domains.processing.workflows.runs import (
    Lost,
    Steps,
    draw,
    fail,
    graph,
    image,
    place,
    step,
)


@dataclass(frozen=True)
class Case:
    """A graph without cycles and which of its steps fail."""

    graph: Graph
    failing: frozenset[str]


@st.composite
def cases(draw_: st.DrawFn) -> Case:
    """Up to six steps, each bound to and conditioned by any of those before it."""
    steps = []
    for number in range(draw_(st.integers(1, 6))):
        names = [each.step_id for each in steps]
        needs = draw_(st.sets(st.sampled_from(names), max_size=2)) if names else set()
        condition = None
        if names and draw_(st.booleans()):
            output = StepOutput(draw_(st.sampled_from(names)))
            condition = Condition(output, draw_(st.booleans()))
        policy = draw_(st.sampled_from(FailurePolicy))
        steps.append(step(f"s{number}", *sorted(needs), condition=condition, on_failure=policy))
    failing = draw_(st.sets(st.sampled_from([each.step_id for each in steps])))
    shuffled = draw_(st.permutations(steps))
    return Case(graph(*shuffled), frozenset(failing))


def expected(case: Case) -> dict[str, Ending]:
    """How each step ends where none stops the run: the rules, one step after another."""
    steps = {each.step_id: each for each in case.graph.steps}
    ended: dict[str, Ending] = {}
    for name in sorted(steps):  # names rise along the graph
        needed = [ended[source.step_id] for source in steps[name].sources]
        condition = steps[name].condition
        pictures = condition and ended[condition.output.step_id] is Ending.DONE
        if any(each in (Ending.FAILED, Ending.BARRED) for each in needed):
            ended[name] = Ending.BARRED
        elif (condition is not None and bool(pictures) is condition.negated) or (
            needed and Ending.DONE not in needed
        ):
            ended[name] = Ending.SKIPPED
        else:
            ended[name] = Ending.FAILED if name in case.failing else Ending.DONE
    return ended


@settings(max_examples=60)
@given(cases())
def test_every_step_ends_as_the_rules_say(case: Case) -> None:
    async def run() -> None:
        steps = Steps(case.graph.steps, dict.fromkeys(case.failing, fail))
        async with place() as at:
            session = await at.end(case.graph, steps)
        ends = expected(case)
        policies = {each.step_id: each.on_failure for each in case.graph.steps}
        failed = {name for name, end in ends.items() if end is Ending.FAILED}
        ran = {name for name, end in ends.items() if end in (Ending.DONE, Ending.FAILED)}
        stopping = {name for name in failed if policies[name] is FailurePolicy.STOP}
        assert set(steps.counts.values()) <= {1}
        if stopping:
            assert session.failure is not None
            assert session.failure.metadata["step_id"] in stopping
            assert set(steps.counts) <= ran
            return
        assert set(steps.counts) == ran
        counted = {name for name in failed if policies[name] is FailurePolicy.CONTINUE}
        assert (session.failure is not None) is bool(counted)
        told = {
            entry.item_id: entry
            for entry in session.log.entries()
            if isinstance(entry, ItemFinished)
        }
        assert set(told) == set(ends)
        assert {name for name, entry in told.items() if entry.failure} == failed
        whole = len(case.graph.steps)
        assert sorted(entry.done for entry in told.values()) == [*range(1, whole + 1)]

    asyncio.run(run())


async def test_a_step_gets_the_pictures_of_others_in_the_order_of_its_bindings() -> None:
    made = {name: image() for name in ("a", "b")}

    async def draw_own(session: Session, inputs: Inputs) -> None:
        session.finish_image(made["b" if inputs == {} and steps.counts["b"] else "a"])

    of = graph(step("a"), step("b", after=("a",)), step("both", "b", "a"))
    steps = Steps(of.steps, {"a": draw_own, "b": draw_own})
    async with place() as at:
        session = await at.end(of, steps)
    files = [
        picture
        for value in steps.given["both"]["images"]
        if isinstance(value.value, tuple)
        for picture in value.value
    ]
    assert files == [made["b"].artifact_id, made["a"].artifact_id]
    assert [each.item_id for each in session.images] == ["both"]


async def test_independent_steps_run_at_the_same_time() -> None:
    both = asyncio.Barrier(2)

    async def meet(session: Session, inputs: Inputs) -> None:
        async with asyncio.timeout(10):
            await both.wait()

    of = graph(step("a"), step("b"))
    async with place() as at:
        session = await at.end(of, Steps(of.steps, {"a": meet, "b": meet}))
    assert session.state is SessionState.COMPLETED


async def test_a_step_fans_out_over_pictures() -> None:
    async def draw_three(session: Session, inputs: Inputs) -> None:
        for index in range(3):
            session.finish_image(image(index))

    of = graph(step("many"), step("each", "many", for_each="images"))
    steps = Steps(of.steps, {"many": draw_three})
    async with place() as at:
        session = await at.end(of, steps)
    names = [run_name("each", index) for index in range(3)]
    assert [steps.counts[name] for name in names] == [1, 1, 1]
    assert {len(steps.given[name]["images"]) for name in names} == {1}
    assert sorted(each.item_id for each in session.images) == names
    assert [each.image_index for each in session.images] == [0, 1, 2]


async def test_progress_of_steps_is_told_in_the_log_of_the_run() -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def step_by_step(session: Session, inputs: Inputs) -> None:
        session.record(StepFinished(0, 1, 2))
        halfway.set()
        await go_on.wait()
        session.finish_image(image())

    of = graph(step("a"), step("b", "a"))
    async with place() as at:
        session, _ = await at.begin(of, Steps(of.steps, {"b": step_by_step}))
        await halfway.wait()
        assert 0.5 <= session.progress < 1.0
        go_on.set()
        await session.over()
        told = [each for each in session.log._entries if isinstance(each.event, StepFinished)]
    assert [each.item_id for each in told] == ["b"]
    assert [type(e) for e in session.log.entries()].count(ImageFinished) == 1
    assert session.progress == 1.0


async def test_a_step_is_tried_again_as_often_as_it_says() -> None:
    tries = 0

    async def third_time(session: Session, inputs: Inputs) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            await fail(session, inputs)
        await draw(session, inputs)

    again = Retries(max_attempts=3, backoff_seconds=0.01)
    of = graph(step("a", retries=again), step("b", "a"))
    steps = Steps(of.steps, {"a": third_time})
    async with place() as at:
        session = await at.end(of, steps)
    assert (session.state, steps.counts["a"]) == (SessionState.COMPLETED, 3)


async def test_the_failure_of_a_run_names_the_step_and_keeps_its_reason() -> None:
    waiting = asyncio.Event()

    async def wait(session: Session, inputs: Inputs) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def fail_then(session: Session, inputs: Inputs) -> None:
        await waiting.wait()
        await fail(session, inputs)

    of = graph(step("first"), step("bad", "first"), step("long"))
    steps = Steps(of.steps, {"bad": fail_then, "long": wait})
    async with place() as at:
        session = await at.end(of, steps)
        children = {
            child.about.parent.item_id: child
            for child in at.sessions.children(session.session_id)
        }
    assert session.failure is not None
    assert session.failure.reason is Reason.DEVICE_LOST
    assert session.failure.metadata["step_id"] == "bad"
    assert session.failure.metadata["session_id"] == children["bad"].session_id
    assert children["long"].state is SessionState.CANCELLED


async def test_a_run_that_fails_ends_its_siblings_at_once() -> None:
    async def draw_two(session: Session, inputs: Inputs) -> None:
        for index in range(2):
            session.finish_image(image(index))

    async def fail_or_wait(session: Session, inputs: Inputs) -> None:
        if steps.counts[run_name("each", 1)]:
            await fail(session, inputs)
        await asyncio.Event().wait()

    of = graph(step("many"), step("each", "many", for_each="images"))
    steps = Steps(of.steps, {"many": draw_two, "each": fail_or_wait})
    async with place() as at:
        session = await at.end(of, steps)
        children = at.sessions.children(session.session_id)
    assert session.failure is not None
    assert (session.failure.metadata["step_id"], session.failure.metadata["run_index"]) == (
        "each",
        "1",
    )
    assert [each.state for each in children] == [
        SessionState.COMPLETED,
        SessionState.CANCELLED,
        SessionState.FAILED,
    ]


async def test_cancelling_a_run_cancels_its_steps() -> None:
    begun = asyncio.Event()

    async def wait(session: Session, inputs: Inputs) -> None:
        begun.set()
        await asyncio.Event().wait()

    of = graph(step("a"), step("b", "a"))
    async with place() as at:
        session, _ = await at.begin(of, Steps(of.steps, {"a": wait}))
        await begun.wait()
        session.request_cancel(Reason.CANCELLED_BY_CLIENT, "enough", "mary")
        await session.over()
        (child,) = at.sessions.children(session.session_id)
    assert isinstance(session.log.terminal, Cancelled)
    assert child.state is SessionState.CANCELLED


async def test_a_paused_run_goes_on_where_it_stopped() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(session: Session, inputs: Inputs) -> None:
        begun.set()
        await go_on.wait()
        await draw(session, inputs)

    of = graph(step("a"), step("b", "a"))
    steps = Steps(of.steps, {"a": long})
    async with place() as at:
        session, _ = await at.begin(of, steps)
        await begun.wait()
        at.sessions.pause(session, "", "mary")
        go_on.set()  # what cannot pause ends first
        while (change := session.log.change()) and session.state is not SessionState.PAUSED:
            await change.wait()
        assert dict(steps.counts) == {"a": 1}
        at.sessions.resume(session, "mary")
        async with asyncio.timeout(10):
            await session.over()
    assert session.state is SessionState.COMPLETED
    assert dict(steps.counts) == {"a": 1, "b": 1}


@dataclass
class BegunSlowly(Steps):
    """Whose sessions are being prepared until `go_on` is set."""

    preparing: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self, place: int, inputs: Inputs, run: Session, name: str) -> SessionRequest:
        made = super().request(place, inputs, run, name)

        async def prepare() -> SessionPlan:
            self.preparing.set()
            await self.go_on.wait()
            return await made.prepare()

        return replace(made, prepare=prepare)


@pytest.mark.parametrize("when", ["prepared", "written"])
@pytest.mark.parametrize("others", [False, True])
async def test_a_step_that_is_being_begun_does_not_run_on_while_its_run_is_paused(
    when: str, others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before its session is there, nor before that is on disk; whether or not others
    run that end first."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(session: Session, inputs: Inputs) -> None:
        begun.set()
        await go_on.wait()

    of = graph(step("a"), *([step("other")] if others else []))
    steps = BegunSlowly(of.steps, {"other": long})
    if when == "written":
        steps.go_on.set()
    async with place() as at, asyncio.timeout(20):
        written, accepted = asyncio.Event(), Sessions.accepted

        async def slowly(sessions: Sessions, session: Session) -> None:
            if session.about.parent.item_id == "a" and when == "written":
                await written.wait()
            await accepted(sessions, session)

        monkeypatch.setattr(Sessions, "accepted", slowly)
        session, _ = await at.begin(of, steps)
        await steps.preparing.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        at.sessions.pause(session, "", "mary")
        for each in (steps.go_on, written, go_on):
            await asyncio.sleep(0.1)
            each.set()
        while (change := session.log.change()) and session.state is not SessionState.PAUSED:
            await change.wait()
        children = at.sessions.children(session.session_id)
        counts = dict(steps.counts)
        assert all(each.state.final or each.state is SessionState.PAUSED for each in children)
        await asyncio.sleep(0.1)
        assert dict(steps.counts) == counts
        at.sessions.resume(session, "mary")
        await session.over()
    assert session.state is SessionState.COMPLETED
    assert dict(steps.counts) == {each.step_id: 1 for each in of.steps}


@dataclass
class RunsItself(Steps):
    """A workflow with one step, which runs it."""

    services: SessionServices | None = None

    def request(self, place: int, inputs: Inputs, run: Session, name: str) -> SessionRequest:
        made = super().request(place, inputs, run, name)
        assert self.services is not None
        of = graph(*self.steps)
        turns = WorkflowTurns(of, {}, self, self.services, {self.steps[0].step_id: 1.0})

        async def prepare() -> SessionPlan:
            plan = await made.prepare()
            return replace(plan, kind=SessionKind.WORKFLOW, work=turns.work)

        return replace(made, prepare=prepare)


async def test_a_workflow_that_runs_itself_ends() -> None:
    of = graph(step("again", work="run_workflow"))
    async with place() as at:
        session = await at.end(of, RunsItself(of.steps, services=at.services))
    assert session.failure is not None
    assert session.failure.reason is Reason.WORKFLOW_INVALID
    assert session.failure.metadata["step_id"] == "again/again/again"


def test_an_output_is_there_only_where_a_step_has_it() -> None:
    ended = Ended(Ending.DONE, (image(seed=5),), "model")
    assert ended.output(OutputKind.SEED) == WorkflowValue(ValueKind.INTEGER, 5)
    assert ended.output(OutputKind.MODEL) == WorkflowValue(ValueKind.MODEL, "model")
    assert Ended(Ending.SKIPPED).output(OutputKind.IMAGES) is None
    assert Ended(Ending.SKIPPED).output(OutputKind.FLAGGED) is None


def judged(*, flagged: bool) -> ImageResult:
    score = SafetyScore("nsfw", 0.9, 0.5, flagged)
    verdict = SafetyVerdict((score,), SafetyAction.WARN, "house", 1, SafetySubject.RESULT)
    return structs.replace(image(), safety=verdict)


def test_a_condition_knows_whether_anything_was_flagged() -> None:
    flagged = Ended(Ending.DONE, (judged(flagged=False), judged(flagged=True)))
    for found, true in (
        (flagged, True),
        (Ended(Ending.DONE, (judged(flagged=False),)), False),
        (Ended(Ending.DONE, (image(),)), False),  # nobody judged it
        (Ended(Ending.SKIPPED), False),
    ):
        for negated in (False, True):
            condition = Condition(StepOutput("a", OutputKind.FLAGGED), negated)
            assert holds(condition, {"a": found}) is (true is not negated)


def test_steps_come_in_the_order_of_the_workflow_where_several_can() -> None:
    steps = (step("late", "early"), step("z"), step("early"), step("a"))
    assert order(steps) == ("z", "early", "a", "late")


# Steps that a run does itself.


async def test_what_a_step_finds_out_decides_what_runs() -> None:
    trusted = StepOutput("look", OutputKind.TRUSTED)
    of = graph(
        step("draw"),
        step("look", "draw", work="verify"),
        step("good", condition=Condition(trusted)),
        step("bad", condition=Condition(trusted, negated=True)),
    )
    for verdict in (True, False):

        async def look(verdict: bool = verdict) -> Ended:
            return Ended(Ending.DONE, trusted=verdict)

        steps = Steps(of.steps, own={"look": look})
        async with place() as here:
            session = await here.end(of, steps)
        assert session.state is SessionState.COMPLETED
        assert (steps.counts["good"], steps.counts["bad"]) == (verdict, not verdict)
        assert steps.counts["look"] == 1


async def test_a_step_that_fans_out_is_trusted_when_all_of_it_is() -> None:
    assert together((Ended(Ending.DONE, trusted=True),) * 2).trusted
    mixed = (Ended(Ending.DONE, trusted=True), Ended(Ending.DONE, trusted=False))
    assert together(mixed).trusted is False
    assert together((Ended(Ending.DONE),)).trusted is None


async def test_pictures_that_a_run_keeps_are_its_result() -> None:
    kept = (image(), image())

    async def keep() -> Ended:
        return Ended(Ending.DONE, kept)

    of = graph(step("draw"), step("keep", "draw", work="store"))
    async with place() as here:
        session = await here.end(of, Steps(of.steps, own={"keep": keep}))

    found = [(each.artifact_id, each.image_index, each.item_id) for each in session.images]
    assert found == [(each.artifact_id, k, "keep") for k, each in enumerate(kept)]
    (told,) = [
        entry
        for entry in session.log.entries()
        if isinstance(entry, ItemFinished) and entry.item_id == "keep"
    ]
    assert told.images == kept


async def test_a_step_without_a_session_is_tried_again_and_fails_by_name() -> None:
    async def lose() -> Ended:
        raise Lost

    retries = Retries(max_attempts=3, backoff_seconds=0.0)
    of = graph(step("draw"), step("look", "draw", work="verify", retries=retries))
    steps = Steps(of.steps, own={"look": lose})
    async with place() as here:
        session = await here.end(of, steps)

    assert steps.counts["look"] == 3
    assert session.failure is not None
    assert session.failure.reason is Reason.DEVICE_LOST
    assert session.failure.metadata["step_id"] == "look"


async def test_what_is_done_is_not_done_again_after_a_pause() -> None:
    kept = (image(),)
    begun, held = asyncio.Event(), asyncio.Event()

    async def keep() -> Ended:
        return Ended(Ending.DONE, kept)

    async def lose() -> Ended:
        raise Lost

    async def hold() -> Ended:
        begun.set()
        await held.wait()
        return Ended(Ending.DONE, trusted=True)

    of = graph(
        step("draw"),
        step("keep", "draw", work="store"),
        step("lost", "draw", work="store", on_failure=FailurePolicy.IGNORE),
        step("look", "keep", work="verify", after=("lost",)),
        step("end", "keep", condition=Condition(StepOutput("look", OutputKind.TRUSTED))),
    )
    steps = Steps(of.steps, own={"keep": keep, "lost": lose, "look": hold})
    async with place() as here, asyncio.timeout(20):
        session, _ = await here.begin(of, steps)
        await begun.wait()
        here.sessions.pause(session, "", "mary")
        while (change := session.log.change()) and session.state is not SessionState.PAUSED:
            await change.wait()
        held.set()
        here.sessions.resume(session, "")
        await session.over()

    assert session.state is SessionState.COMPLETED
    assert (steps.counts["keep"], steps.counts["lost"], steps.counts["look"]) == (1, 1, 2)
    assert steps.counts["end"] == 1
