"""What a step is given when its turn comes, out of what those before it gave."""

from __future__ import annotations

from collections.abc import Mapping

from domains.processing.workflows.types import (
    Arguments,
    Condition,
    Ended,
    Ending,
    Inputs,
    Step,
    WorkflowValue,
)

_WORST_FIRST = (Ending.FAILED, Ending.BARRED, Ending.SKIPPED, Ending.DONE)


def barred(step: Step, ended: Mapping[str, Ended]) -> bool:
    """Whether something that a step is bound to failed."""
    lost = (Ending.FAILED, Ending.BARRED)
    return any(ended[source.step_id].ending in lost for source in step.sources)


def holds(condition: Condition | None, ended: Mapping[str, Ended]) -> bool:
    """Whether a step may run. One without output has no pictures and is not flagged."""
    if condition is None:
        return True
    output = ended[condition.output.step_id].output(condition.output.kind)
    true = output is not None and output.value is not False
    return true is not condition.negated


def inputs_of(step: Step, values: Arguments, ended: Mapping[str, Ended]) -> Inputs | None:
    """What fills the inputs of a step, in the order of its bindings.

    Args:
        step: The step; all that it needs has ended.
        values: Those of the parameters.
        ended: How steps ended.

    Returns:
        None where an input has nothing that fills it: all that it is bound to gave nothing.
    """
    found: dict[str, tuple[WorkflowValue, ...]] = {}
    for binding in step.bindings:
        source = binding.source
        if isinstance(source, str):
            value = values.get(source)
        else:
            value = None if source is None else ended[source.step_id].output(source.kind)
        given = found.setdefault(binding.input, ())
        if value is not None:
            found[binding.input] = (*given, value)
    return None if any(not given for given in found.values()) else found


def fanned_out(step: Step, inputs: Inputs) -> tuple[Inputs, ...]:
    """The inputs of each run of a step: one, or with `for_each` one for each picture there."""
    if not step.for_each:
        return (inputs,)
    return tuple(
        {**inputs, step.for_each: (WorkflowValue(value.kind, (picture,)),)}
        for value in inputs[step.for_each]
        if isinstance(value.value, tuple)
        for picture in value.value
    )


def together(runs: tuple[Ended, ...]) -> Ended:
    """What the runs of a step give, in their order."""
    images = tuple(image for run in runs for image in run.images)
    models = [run.model_id for run in runs if run.model_id]
    devices = [run.device_id for run in runs if run.device_id]
    allocations = [run.allocation_id for run in runs if run.allocation_id]
    endings = {run.ending for run in runs}
    # Any that failed or was left out makes the step so; without runs there is nothing to do.
    ending = next((e for e in _WORST_FIRST if e in endings), _WORST_FIRST[-1])
    looked = [run.trusted for run in runs if run.trusted is not None]
    return Ended(
        ending,
        images,
        models[0] if models else "",
        all(looked) if looked else None,
        allocations[0] if allocations else "",
        devices[0] if devices else "",
    )
