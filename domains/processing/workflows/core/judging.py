"""A workflow looked at as a whole before it runs: what is wrong with it, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from domains.errors import DomainError, FieldViolation
from domains.processing.workflows.core.graph import order
from domains.processing.workflows.core.rules import check_choices, check_graph
from domains.processing.workflows.core.values import check_arguments, filled
from domains.processing.workflows.ports import StepJudge
from domains.processing.workflows.types import (
    KIND_OF,
    Arguments,
    Graph,
    Inputs,
    Judgement,
    Step,
    StepForecast,
    StepOutput,
    ValueKind,
    WorkflowValue,
)

StandIn = Callable[[ValueKind], WorkflowValue | None]
"""What stands for a value of a kind that is not known yet; None where nothing needs to."""


async def judge(
    graph: Graph,
    judge_of_steps: StepJudge,
    stand_in: StandIn,
    *,
    path: str,
    arguments: Arguments | None,
    arguments_path: str = "arguments",
    also: Iterable[FieldViolation] = (),
) -> Judgement:
    """What running a workflow would come to.

    Args:
        graph: The workflow.
        judge_of_steps: Asks the services of the steps.
        stand_in: For what only a run will know.
        path: Where the workflow stands in the request.
        arguments: What a run would be given; None where that is not looked at.
        arguments_path: Where those stand.
        also: What is wrong with the message as such; told first.
    """
    target_of = judge_of_steps.target
    found = [*also, *check_graph(graph, target_of, path)]
    values = filled(graph, arguments or {})
    if arguments is not None:
        found += check_arguments(graph, arguments, arguments_path)
    places = {each.name: place for place, each in enumerate(graph.parameters)}

    def where(name: str) -> str:
        if name in (arguments or {}):
            return f"{arguments_path}[{name!r}]"
        return f"{path}.parameters[{places[name]}].default_value"

    found += check_choices(graph, target_of, values, where)
    unbuilt: list[str] = []
    forecasts: dict[str, StepForecast] = {}
    error: DomainError | None = None
    for place, step in enumerate(graph.steps):
        at = f"{path}.steps[{place}]"
        # What breaks rules that hold whatever a service says is not asked about as well.
        about = (f"{at}.bindings", f"{at}.{step.work}.", f"{at}.for_each_input")
        if not step.work or any(each.field.startswith(about) for each in found):
            continue
        inputs, unknown, model_known = _known(step, values, graph, stand_in)
        if not model_known:
            continue
        runs = 1
        if step.for_each in inputs and step.for_each not in unknown:
            pictures = [each.value for each in inputs[step.for_each]]
            runs = sum(len(each) for each in pictures if isinstance(each, tuple))
        if step.for_each in inputs:
            inputs = {**inputs, step.for_each: _first(inputs[step.for_each])}
        verdict = await judge_of_steps.judge(place, inputs, unknown)
        found += verdict.violations
        unbuilt += verdict.unbuilt
        error = error or verdict.error
        if verdict.forecast is not None:
            forecasts[step.step_id] = replace(verdict.forecast, runs=runs)
    violations = tuple({each.field: each for each in reversed(found)}.values())[::-1]
    in_order = () if violations else order(graph.steps)
    return Judgement(violations, tuple(dict.fromkeys(unbuilt)), error, in_order, forecasts)


def _known(
    step: Step, values: Arguments, graph: Graph, stand_in: StandIn
) -> tuple[Inputs, frozenset[str], bool]:
    """The inputs of a step as far as they are known, those that are not, and whether its model
    is: without that nothing can be said of the step."""
    kinds = {parameter.name: parameter.kind for parameter in graph.parameters}
    inputs: dict[str, tuple[WorkflowValue, ...]] = {}
    unknown: set[str] = set()
    model_known = True
    for binding in step.bindings:
        source = binding.source
        value = values.get(source) if isinstance(source, str) else None
        if value is None:
            unknown.add(binding.input)
            kind = KIND_OF[source.kind] if isinstance(source, StepOutput) else None
            kind = kinds.get(source) if isinstance(source, str) else kind
            model_known = model_known and kind is not ValueKind.MODEL
            value = None if kind is None else stand_in(kind)
        if value is not None:
            inputs[binding.input] = (*inputs.get(binding.input, ()), value)
    return inputs, frozenset(unknown), model_known


def _first(values: tuple[WorkflowValue, ...]) -> tuple[WorkflowValue, ...]:
    """The first of the pictures, alone."""
    for value in values:
        if isinstance(value.value, tuple) and value.value:
            return (WorkflowValue(value.kind, value.value[:1]),)
    return ()
