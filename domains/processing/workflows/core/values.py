"""Which values go where: kinds that fit, parameters and what a run gives for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from domains.errors import FieldViolation, Reason
from domains.processing.workflows.types import (
    Arguments,
    Graph,
    Parameter,
    ValueKind,
    WorkflowValue,
)

_NUMBERS = (ValueKind.NUMBER, ValueKind.INTEGER)
_TEXTS = (ValueKind.TEXT, ValueKind.MODEL, ValueKind.CHOICE)


def fits(kind: ValueKind, wanted: ValueKind) -> bool:
    """Whether a value of a kind can stand for one that is wanted."""
    return kind is wanted or (kind, wanted) == (ValueKind.INTEGER, ValueKind.NUMBER)


def check_parameter(parameter: Parameter, path: str) -> Iterator[FieldViolation]:
    """What is wrong with a parameter itself."""
    bounds = {"minimum": parameter.minimum, "maximum": parameter.maximum}
    for name, bound in bounds.items():
        if bound is not None and parameter.kind not in _NUMBERS:
            yield _wrong(f"{path}.{name}", "Only numbers have one.")
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and low > high:
        yield _wrong(f"{path}.maximum", "Must not be less than the minimum.")
    if parameter.choices and parameter.kind not in _TEXTS:
        yield _wrong(f"{path}.choices", "Only texts, models and choices have them.")
    if parameter.default is not None:
        yield from check_value(parameter, parameter.default, f"{path}.default_value")


def check_value(
    parameter: Parameter, value: WorkflowValue, path: str
) -> Iterator[FieldViolation]:
    """What is wrong with a value for a parameter."""
    if parameter.kind is None:
        return
    if not fits(value.kind, parameter.kind):
        yield _wrong(path, f"Must be {parameter.kind.value}, not {value.kind.value}.")
        return
    low, high, given = parameter.minimum, parameter.maximum, value.value
    if isinstance(given, int | float) and parameter.kind in _NUMBERS:
        too_low, too_high = low is not None and given < low, high is not None and given > high
        if too_low or too_high:
            bounds = [f"at least {low:g}"] if low is not None else []
            bounds += [f"at most {high:g}"] if high is not None else []
            rule = f"Must be {' and '.join(bounds)}."
            yield FieldViolation(path, Reason.FIELD_OUT_OF_RANGE, rule)
    if parameter.choices and given not in parameter.choices:
        yield _wrong(path, f"Must be one of {', '.join(parameter.choices)}.")


def check_arguments(graph: Graph, arguments: Arguments, path: str) -> Iterator[FieldViolation]:
    """What is wrong with what a run is given; `path` is where that stands."""
    known = {parameter.name: parameter for parameter in graph.parameters}
    for name, value in arguments.items():
        where = f"{path}[{name!r}]"
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            yield _wrong(where, f"The workflow has no such parameter; it has {names}.")
        else:
            yield from check_value(known[name], value, where)
    for name, parameter in known.items():
        if name not in arguments and parameter.default is None:
            rule = "Must be set: the parameter has no default."
            yield FieldViolation(f"{path}[{name!r}]", Reason.REQUIRED_FIELD_MISSING, rule)


def filled(graph: Graph, arguments: Arguments) -> Mapping[str, WorkflowValue]:
    """What is known of the parameters: what a run gives, else their defaults."""
    defaults = {each.name: each.default for each in graph.parameters if each.default}
    return {**defaults, **arguments}


def _wrong(path: str, rule: str) -> FieldViolation:
    return FieldViolation(path, Reason.WORKFLOW_INVALID, rule)
