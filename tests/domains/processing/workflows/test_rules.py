"""What is wrong with a graph is told all at once, each with its place."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from domains.errors import FieldViolation, Reason
from domains.processing.workflows.core.graph import cycles
from domains.processing.workflows.core.rules import check_choices, check_graph
from domains.processing.workflows.core.values import check_arguments, filled
from domains.processing.workflows.types import (
    Binding,
    Condition,
    Graph,
    OutputKind,
    Parameter,
    Step,
    StepOutput,
    Target,
    ValueKind,
    WorkflowValue,
)
from tests.domains.processing.workflows.runs import graph, step

TARGETS = {
    "images": Target(frozenset({ValueKind.IMAGES}), repeated=True),
    "image": Target(frozenset({ValueKind.IMAGES})),
    "text": Target(frozenset({ValueKind.TEXT})),
    "number": Target(frozenset({ValueKind.NUMBER})),
    "choice": Target(frozenset({ValueKind.CHOICE}), choices=("A", "B")),
}
TEXT = Parameter("text", ValueKind.TEXT)
COUNT = Parameter("count", ValueKind.INTEGER, minimum=1, maximum=9)


def target_of(place: int, path: str) -> Target | str:
    return TARGETS.get(path, "There is no such field.")


def wrong(of: Graph) -> list[str]:
    """Where it breaks rules."""
    return [each.field for each in check_graph(of, target_of, "workflow")]


def bound(*bindings: Binding, name: str = "a", work: str = "generate") -> Step:
    return Step(name, work, bindings)


def test_a_graph_that_keeps_the_rules_breaks_none() -> None:
    of = Graph(
        "w",
        (TEXT, COUNT),
        (
            bound(Binding("text", "text"), Binding("number", "count")),
            step("b", "a", "a", condition=Condition(StepOutput("a"))),
            step("c", "b", for_each="images"),
        ),
        ("c",),
    )
    assert wrong(of) == []


def test_everything_that_is_wrong_is_told_at_once() -> None:
    of = Graph(
        "w",
        (TEXT, TEXT, Parameter("a b", ValueKind.TEXT, minimum=1)),
        (
            bound(
                Binding("text", "missing"),
                Binding("nowhere", "text"),
                Binding("number", "text"),
                Binding("image", StepOutput("b")),
                Binding("image", StepOutput("b", OutputKind.SEED)),
                Binding("text", None),
                Binding("text", StepOutput("nobody")),
            ),
            replace(
                step("b", after=("nobody",)),
                for_each="text",
                condition=Condition(StepOutput("a", OutputKind.SEED)),
            ),
            Step("b", ""),
            bound(name="load", work="load_model"),
        ),
        ("nobody", "load", "a", "a"),
    )
    assert wrong(of) == [
        "workflow.parameters[1].name",
        "workflow.parameters[2].name",
        "workflow.steps[2].step_id",
        "workflow.parameters[2].minimum",
        "workflow.steps[0].bindings[0].parameter",
        "workflow.steps[0].bindings[0].input",
        "workflow.steps[0].bindings[1].input",
        "workflow.steps[0].bindings[2].input",
        "workflow.steps[0].bindings[3].input",
        "workflow.steps[0].bindings[4].input",
        "workflow.steps[0].bindings[4].input",
        "workflow.steps[0].bindings[5].source",
        "workflow.steps[0].bindings[5].input",
        "workflow.steps[0].bindings[6].output.step_id",
        "workflow.steps[0].bindings[6].input",
        "workflow.steps[0].bindings[6].input",
        "workflow.steps[1].for_each_input",
        "workflow.steps[1].after_step_ids[0]",
        "workflow.steps[1].condition.output.kind",
        "workflow.steps[2].work",
        "workflow.result_step_ids[0]",
        "workflow.result_step_ids[1]",
        "workflow.result_step_ids[3]",
    ]


def test_an_output_that_a_step_does_not_have_is_told() -> None:
    output = StepOutput("load", OutputKind.IMAGES)
    of = graph(bound(name="load", work="load_model"), bound(Binding("images", output)))
    (violation,) = check_graph(of, target_of, "workflow")
    assert violation.field == "workflow.steps[1].bindings[0].output.kind"
    assert violation.reason is Reason.WORKFLOW_INVALID


def test_a_cycle_names_its_steps_in_the_order_of_their_waiting() -> None:
    of = graph(step("free"), step("a", "c"), step("b", "a"), step("c", "b"))
    (violation,) = check_graph(of, target_of, "workflow")
    assert violation.field == "workflow.steps[1]"
    assert "a needs c needs b needs a" in violation.description


def test_a_step_that_needs_itself_is_a_cycle() -> None:
    assert [*cycles([step("a", after=("a",))])] == [("a",)]


def test_rings_that_have_nothing_in_common_are_each_told() -> None:
    steps = [step("a", "b"), step("b", "a"), step("c", "d"), step("d", "c")]
    assert {frozenset(ring) for ring in cycles(steps)} == {
        frozenset({"a", "b"}),
        frozenset({"c", "d"}),
    }


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef"))))
def test_no_cycle_is_accepted_and_nothing_else_is_one(needs: dict[str, set[str]]) -> None:
    def reaches(start: str) -> set[str]:
        found: set[str] = set()
        left = [*needs.get(start, ())]
        while left:
            name = left.pop()
            if name in needs and name not in found:
                found.add(name)
                left += needs[name]
        return found

    steps = [step(name, after=tuple(sorted(needed))) for name, needed in needs.items()]
    rings = [*cycles(steps)]
    circular = {name for name in needs if name in reaches(name)}
    assert bool(rings) is bool(circular)
    assert {name for ring in rings for name in ring} <= circular


def violations(found: list[FieldViolation]) -> list[tuple[str, Reason]]:
    return [(each.field, each.reason) for each in found]


def test_arguments_are_checked_against_their_parameters() -> None:
    chosen = Parameter(
        "style", ValueKind.TEXT, WorkflowValue(ValueKind.TEXT, "x"), choices=("x",)
    )
    of = Graph("w", (TEXT, COUNT, chosen), (step("a"),))
    arguments = {
        "count": WorkflowValue(ValueKind.INTEGER, 10),
        "style": WorkflowValue(ValueKind.TEXT, "y"),
        "unknown": WorkflowValue(ValueKind.TEXT, ""),
    }
    assert violations([*check_arguments(of, arguments, "arguments")]) == [
        ("arguments['count']", Reason.FIELD_OUT_OF_RANGE),
        ("arguments['style']", Reason.WORKFLOW_INVALID),
        ("arguments['unknown']", Reason.WORKFLOW_INVALID),
        ("arguments['text']", Reason.REQUIRED_FIELD_MISSING),
    ]
    kind = {"text": WorkflowValue(ValueKind.NUMBER, 1.0)}
    assert ("arguments['text']", Reason.WORKFLOW_INVALID) in violations(
        [*check_arguments(of, kind, "arguments")]
    )
    assert filled(of, {})["style"].value == "x"


def test_a_whole_number_is_a_number() -> None:
    number = Parameter("n", ValueKind.NUMBER)
    of = Graph("w", (number,), (bound(Binding("number", "n")),))
    arguments = {"n": WorkflowValue(ValueKind.INTEGER, 1)}
    assert [*check_arguments(of, arguments, "arguments")] == []


def test_a_choice_that_is_none_where_it_is_bound_is_told() -> None:
    parameter = Parameter("c", ValueKind.CHOICE)
    of = Graph("w", (parameter,), (bound(Binding("choice", "c")),))
    values = {"c": WorkflowValue(ValueKind.CHOICE, "C")}
    found = [*check_choices(of, target_of, values, lambda name: f"arguments[{name!r}]")]
    assert violations(found) == [("arguments['c']", Reason.ENUM_VALUE_UNKNOWN)]


def test_only_a_step_that_looks_is_trusted_and_only_one_that_keeps_gives_pictures() -> None:
    trusted = StepOutput("look", OutputKind.TRUSTED)
    of = Graph(
        "w",
        (),
        (
            step("draw"),
            step("look", "draw", work="verify"),
            step("keep", "draw", work="store", condition=Condition(trusted)),
            step("more", "keep"),
        ),
        ("more", "keep"),
    )
    assert wrong(of) == []
    of = Graph(
        "w",
        (),
        (
            step("look", work="verify"),
            step("more", "look"),
            step("drawn", condition=Condition(StepOutput("more", OutputKind.TRUSTED))),
        ),
        ("look",),
    )
    assert wrong(of) == [
        "workflow.steps[1].bindings[0].output.kind",
        "workflow.steps[2].condition.output.kind",
        "workflow.result_step_ids[0]",
    ]
