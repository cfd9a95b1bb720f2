"""What is wrong with a graph: every rule that it breaks, each with its place in the request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from domains import checks
from domains.errors import FieldViolation, Reason
from domains.processing.workflows.core.graph import cycles
from domains.processing.workflows.core.values import check_parameter, fits
from domains.processing.workflows.types import (
    KIND_OF,
    Binding,
    Graph,
    OutputKind,
    Step,
    StepOutput,
    Target,
    ValueKind,
    WorkflowValue,
)

TargetOf = Callable[[int, str], Target | str]
"""What an input of a step, by its place, takes; or in words why there is no such input."""

GIVES: Mapping[str, frozenset[OutputKind]] = {
    "generate": frozenset(OutputKind) - {OutputKind.TRUSTED, OutputKind.ALLOCATION},
    "batch": frozenset({OutputKind.IMAGES, OutputKind.SEED, OutputKind.FLAGGED}),
    "postprocess": frozenset({OutputKind.IMAGES, OutputKind.FLAGGED}),
    "control_image": frozenset({OutputKind.IMAGES}),
    "run_workflow": frozenset({OutputKind.IMAGES}),
    "load_model": frozenset({OutputKind.MODEL, OutputKind.DEVICE}),
    "optimize_device": frozenset({OutputKind.DEVICE}),
    "allocate_memory": frozenset({OutputKind.ALLOCATION, OutputKind.DEVICE}),
    "cache_model": frozenset({OutputKind.MODEL}),
    "verify": frozenset({OutputKind.TRUSTED}),
    "store": frozenset({OutputKind.IMAGES}),
}
"""The outputs of a step by what it does; what is not here has none."""

_TRUE = frozenset({OutputKind.FLAGGED, OutputKind.TRUSTED, OutputKind.IMAGES})


def check_graph(graph: Graph, target_of: TargetOf, path: str) -> Iterator[FieldViolation]:
    """Every rule that a graph breaks; `path` is where the workflow stands in the request."""
    yield from _check_names(graph, path)
    for place, parameter in enumerate(graph.parameters):
        yield from check_parameter(parameter, f"{path}.parameters[{place}]")
    if not graph.steps:
        yield _wrong(f"{path}.steps", "Must have a step at least.")
    for place in range(len(graph.steps)):
        yield from _Checked(graph, place, target_of, f"{path}.steps[{place}]").violations()
    places = {step.step_id: place for place, step in enumerate(graph.steps)}
    works = {step.step_id: step.work for step in graph.steps}
    for place, name in enumerate(graph.result_step_ids):
        where = f"{path}.result_step_ids[{place}]"
        if name not in works:
            yield _wrong(where, "There is no such step.")
        elif OutputKind.IMAGES not in GIVES.get(works[name], ()):
            yield _wrong(where, f"A step of {works[name] or 'no work'} gives no pictures.")
        elif name in graph.result_step_ids[:place]:
            yield _wrong(where, "Is named twice.")
    for ring in cycles(graph.steps):
        chain = " needs ".join([*ring, ring[0]])
        rule = f"Must not wait for itself: {chain}."
        yield _wrong(f"{path}.steps[{places[ring[0]]}]", rule)


def check_choices(
    graph: Graph,
    target_of: TargetOf,
    values: Mapping[str, WorkflowValue],
    where: Callable[[str], str],
) -> Iterator[FieldViolation]:
    """Choices that are none where they are bound; `where` is where a parameter's value is."""
    for place, step in enumerate(graph.steps):
        for binding in step.bindings:
            value = values.get(binding.source) if isinstance(binding.source, str) else None
            if value is None or value.kind is not ValueKind.CHOICE:
                continue
            target = target_of(place, binding.input)
            choices = target.choices if isinstance(target, Target) else ()
            if choices and value.value not in choices:
                path = where(str(binding.source))
                rule = f"Must be one of {', '.join(choices)}."
                yield FieldViolation(path, Reason.ENUM_VALUE_UNKNOWN, rule)


def _check_names(graph: Graph, path: str) -> Iterator[FieldViolation]:
    named = {
        "parameters": ("name", [parameter.name for parameter in graph.parameters]),
        "steps": ("step_id", [step.step_id for step in graph.steps]),
    }
    for field, (part, names) in named.items():
        seen: set[str] = set()
        for place, name in enumerate(names):
            where = f"{path}.{field}[{place}].{part}"
            wrong = checks.name(where, name)
            if wrong is not None:
                yield wrong
            elif name in seen:
                yield _wrong(where, "Another one has this name.")
            seen.add(name)


class _Checked:
    """One step of a graph and where it stands."""

    def __init__(self, graph: Graph, place: int, target_of: TargetOf, path: str) -> None:
        self._graph, self._place, self._target_of, self._path = graph, place, target_of, path
        self._step: Step = graph.steps[place]
        self._works = {step.step_id: step.work for step in graph.steps}
        self._parameters = {each.name: each for each in graph.parameters}

    def violations(self) -> Iterator[FieldViolation]:
        """Every rule that it breaks."""
        step, path = self._step, self._path
        if not step.work:
            yield _wrong(f"{path}.work", "Must say what the step does.")
        counts = Counter(binding.input for binding in step.bindings)
        for place, binding in enumerate(step.bindings):
            yield from self._binding(binding, counts, f"{path}.bindings[{place}]")
        if step.for_each and not any(
            binding.input == step.for_each and self._kind(binding) in (ValueKind.IMAGES, None)
            for binding in step.bindings
        ):
            yield _wrong(
                f"{path}.for_each_input", "Must be an input that pictures are bound to."
            )
        for place, name in enumerate(step.after):
            if name not in self._works:
                yield _wrong(f"{path}.after_step_ids[{place}]", "There is no such step.")
        if step.condition is not None:
            where = f"{path}.condition.output"
            yield from self._output(step.condition.output, where)
            if step.condition.output.kind not in _TRUE:
                rule = "Must be FLAGGED, TRUSTED or IMAGES: nothing else is true."
                yield _wrong(f"{where}.kind", rule)

    def _binding(
        self, binding: Binding, counts: Counter[str], path: str
    ) -> Iterator[FieldViolation]:
        kind = self._kind(binding)
        match binding.source:
            case None:
                rule = "Must be bound to a parameter or to an output."
                yield _wrong(f"{path}.source", rule)
            case str(name):
                if name not in self._parameters:
                    yield _wrong(f"{path}.parameter", "The workflow has no such parameter.")
            case output:
                yield from self._output(output, f"{path}.output")
        if not self._step.work or not binding.input:
            return
        target = self._target_of(self._place, binding.input)
        if isinstance(target, str):
            yield _wrong(f"{path}.input", target)
            return
        if kind is not None and not any(fits(kind, wanted) for wanted in target.kinds):
            wanted = " or ".join(sorted(each.value for each in target.kinds))
            yield _wrong(f"{path}.input", f"Takes {wanted}, not {kind.value}.")
        if counts[binding.input] > 1 and not target.repeated:
            yield _wrong(f"{path}.input", "Is bound twice, and is no list.")

    def _output(self, output: StepOutput, path: str) -> Iterator[FieldViolation]:
        work = self._works.get(output.step_id)
        if work is None:
            yield _wrong(f"{path}.step_id", "There is no such step.")
        elif work and output.kind not in GIVES.get(work, ()):
            rule = f"A step of {work} has no output {output.kind.name}."
            yield _wrong(f"{path}.kind", rule)

    def _kind(self, binding: Binding) -> ValueKind | None:
        """The kind of what is bound; None where that is not known."""
        if isinstance(binding.source, StepOutput):
            return KIND_OF[binding.source.kind]
        parameter = self._parameters.get(binding.source or "")
        return None if parameter is None else parameter.kind


def _wrong(path: str, rule: str) -> FieldViolation:
    return FieldViolation(path, Reason.WORKFLOW_INVALID, rule)
