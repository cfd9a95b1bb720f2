"""Workflows and what is wrong with them, for people."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from deviceops.v1 import workflow_pb2
from server.cli.output import table
from server.cli.wording import duration, enum_word, printable, seconds_of, size
from server.cli.workflow_values import kind_words, value_words


def tell(workflow: workflow_pb2.Workflow) -> None:
    """What a workflow takes and what its steps do."""
    typer.echo(printable(f"{workflow.workflow_id}, version {workflow.version}"))
    if workflow.description:
        typer.echo(printable(workflow.description))
    typer.echo()
    table(
        ("parameter", "kind", "default", "about"),
        (
            (
                each.name,
                kind_words(each.kind),
                value_words(each.default_value)
                if each.HasField("default_value")
                else "must be given",
                each.description,
            )
            for each in workflow.parameters
        ),
    )
    typer.echo()
    table(
        ("step", "does", "after", "if it fails"),
        (
            (
                each.step_id,
                (each.WhichOneof("work") or "").replace("_", " ")
                + (" for each picture" if each.for_each_input else ""),
                ", ".join(sorted(set(_before(each)))),
                enum_word(workflow_pb2.FailurePolicy, each.on_failure, "FAILURE_POLICY_")
                if each.on_failure
                else "stop",
            )
            for each in workflow.steps
        ),
    )


def _before(step: workflow_pb2.WorkflowStep) -> Iterable[str]:
    yield from step.after_step_ids
    if step.HasField("condition"):
        yield step.condition.output.step_id
    for binding in step.bindings:
        if binding.HasField("output"):
            yield binding.output.step_id


def tell_verdict(verdict: workflow_pb2.ValidateWorkflowResponse) -> None:
    """What is wrong with a workflow, or what a run of it needs."""
    for each in verdict.violations:
        typer.echo(printable(f"{each.field}: {each.description} ({each.reason})"))
    if verdict.violations_omitted:
        typer.echo(f"And {verdict.violations_omitted} more.")
    if not verdict.valid:
        return
    needs = verdict.needs
    typer.echo(printable(f"It can run, in this order: {', '.join(verdict.step_order)}."))
    if needs.model_ids:
        typer.echo(printable(f"Models: {', '.join(needs.model_ids)}"))
    if needs.peak_memory.HasField("value_bytes"):
        typer.echo(f"Device memory at the peak: {size(needs.peak_memory.value_bytes)}")
    if needs.HasField("estimated_duration"):
        typer.echo(f"Time: about {duration(seconds_of(needs.estimated_duration))}")
    if needs.image_count:
        typer.echo(f"Pictures: {needs.image_count}")
