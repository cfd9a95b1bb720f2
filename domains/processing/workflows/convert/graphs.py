"""Workflows and their values between proto and domain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deviceops.v1 import session_pb2, workflow_pb2
from domains import checks
from domains.conversions import EnumMap, given, seconds, timestamp, wished
from domains.errors import FieldViolation, Reason
from domains.limits import LIMITS
from domains.processing.workflows.types import (
    Arguments,
    Binding,
    Condition,
    FailurePolicy,
    Graph,
    OutputKind,
    Parameter,
    Retries,
    Step,
    StepOutput,
    StoredWorkflow,
    ValueKind,
    WorkflowValue,
)

KINDS = EnumMap(ValueKind, workflow_pb2.ValueKind, "VALUE_KIND_")
OUTPUTS = EnumMap(OutputKind, workflow_pb2.StepOutputKind, "STEP_OUTPUT_KIND_")
POLICIES = EnumMap(FailurePolicy, workflow_pb2.FailurePolicy, "FAILURE_POLICY_")
_VALUE_KINDS = {
    "images": ValueKind.IMAGES,
    "text": ValueKind.TEXT,
    "number": ValueKind.NUMBER,
    "model_id": ValueKind.MODEL,
    "integer": ValueKind.INTEGER,
    "boolean": ValueKind.BOOL,
    "choice": ValueKind.CHOICE,
}


def value_from_proto(message: workflow_pb2.WorkflowValue) -> WorkflowValue | None:
    """A value; None where the message has none."""
    field = message.WhichOneof("value")
    if field is None:
        return None
    kind = _VALUE_KINDS[field]
    if kind is ValueKind.IMAGES:
        return WorkflowValue(kind, tuple(message.images.images))
    return WorkflowValue(kind, getattr(message, field))


def arguments_from_proto(
    messages: Mapping[str, workflow_pb2.WorkflowValue],
) -> Arguments:
    """What a run is given; a value that is none counts as not given."""
    values = {name: value_from_proto(messages[name]) for name in messages}
    return {name: value for name, value in values.items() if value is not None}


def graph_from_proto(message: workflow_pb2.Workflow) -> Graph:
    """A workflow without what its steps do, unchecked."""
    return Graph(
        message.workflow_id,
        tuple(map(_parameter, message.parameters)),
        tuple(map(_step, message.steps)),
        tuple(message.result_step_ids),
    )


def _parameter(message: workflow_pb2.WorkflowParameter) -> Parameter:
    return Parameter(
        message.name,
        KINDS.optional_from_proto(message.kind),
        value_from_proto(message.default_value),
        wished(message, "minimum"),
        wished(message, "maximum"),
        tuple(message.choices),
    )


def _step(message: workflow_pb2.WorkflowStep) -> Step:
    return Step(
        message.step_id,
        message.WhichOneof("work") or "",
        tuple(map(_binding, message.bindings)),
        wished(message, "condition", _condition),
        tuple(message.after_step_ids),
        message.for_each_input,
        _retries(message.retry),
        POLICIES.from_proto(message.on_failure, FailurePolicy.STOP),
    )


def _binding(message: workflow_pb2.WorkflowBinding) -> Binding:
    match message.WhichOneof("source"):
        case "parameter":
            return Binding(message.input, message.parameter)
        case "output":
            return Binding(message.input, _output(message.output))
    return Binding(message.input, None)


def _output(message: workflow_pb2.StepOutput) -> StepOutput:
    return StepOutput(message.step_id, OUTPUTS.from_proto(message.kind, OutputKind.IMAGES))


def _condition(message: workflow_pb2.StepCondition) -> Condition:
    return Condition(_output(message.output), message.negated)


def _retries(message: session_pb2.RetrySettings) -> Retries:
    return Retries(int(given(message, "max_attempts")), given(message, "backoff"))


def run_timeout(message: workflow_pb2.WorkflowStep) -> float | None:
    """The seconds that one attempt of a step may take; None where it says nothing."""
    return wished(message, "run_timeout", seconds)


def stored_to_proto(stored: StoredWorkflow, *, full: bool = True) -> workflow_pb2.Workflow:
    """A workflow as it is kept; without `full` without its steps and default values."""
    result = workflow_pb2.Workflow.FromString(stored.body)
    result.workflow_id = stored.workflow_id
    result.owner, result.version = stored.owner, stored.version
    result.built_in = stored.built_in
    created = timestamp(stored.create_time)
    if created is not None:
        result.create_time.CopyFrom(created)
    if not full:
        for field in ("steps", "result_step_ids"):
            result.ClearField(field)
        for parameter in result.parameters:
            parameter.ClearField("default_value")
    return result


def check_new(message: workflow_pb2.Workflow) -> Iterator[FieldViolation]:
    """What is wrong with a workflow that a client wants to be kept, besides what is in it."""
    wrong = checks.name("workflow.workflow_id", message.workflow_id)
    if wrong is not None:
        yield wrong
    set_here = {field.name for field, _ in message.ListFields()}
    for field in ("built_in", "version", "owner", "create_time"):
        if field in set_here:
            rule = "Must be unset: the server says it."
            yield FieldViolation(f"workflow.{field}", Reason.FIELDS_CONFLICT, rule)
    limit = LIMITS["CreateWorkflowRequest.workflow"]
    too_large = checks.size("workflow", message.ByteSize(), limit)
    if too_large is not None:
        yield too_large
