"""Values of workflows: what flows between steps, the graph, and how a run of it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Moment, Name, Text, Value
from domains.errors import DomainError, FieldViolation
from domains.limits import default_of
from domains.session.types import ImageResult
from domains.values import ByteFigure


class ValueKind(Enum):
    """What flows between steps."""

    IMAGES = "pictures"
    TEXT = "text"
    NUMBER = "a number"
    MODEL = "a model"
    INTEGER = "a whole number"
    BOOL = "yes or no"
    CHOICE = "a choice"


Scalar = str | float | int | bool
Pictures = tuple[object, ...]
"""Each as the contract names one, or the id of an artifact; nothing here looks into them."""


@dataclass(frozen=True)
class WorkflowValue:
    """A value, and what kind it is of."""

    kind: ValueKind
    value: Scalar | Pictures


@dataclass(frozen=True)
class Parameter:
    """What a run is given under a name; without `default` it must be given.

    `minimum` and `maximum` bound numbers, `choices` the texts that are accepted, any if empty.
    """

    name: str
    kind: ValueKind | None
    default: WorkflowValue | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class OutputKind(Enum):
    """What a step gives."""

    IMAGES = "pictures"
    SEED = "seed"
    FLAGGED = "flagged"
    MODEL = "model"
    TRUSTED = "trusted"
    ALLOCATION = "allocation"
    DEVICE = "device"


KIND_OF: Mapping[OutputKind, ValueKind] = {
    OutputKind.IMAGES: ValueKind.IMAGES,
    OutputKind.SEED: ValueKind.INTEGER,
    OutputKind.FLAGGED: ValueKind.BOOL,
    OutputKind.MODEL: ValueKind.MODEL,
    OutputKind.TRUSTED: ValueKind.BOOL,
    OutputKind.ALLOCATION: ValueKind.TEXT,
    OutputKind.DEVICE: ValueKind.TEXT,
}
"""Which kind an output is of."""
OWN_WORKS = frozenset({"verify", "store", "allocate_memory", "free_memory"})
"""What a run does itself, without a session for it."""


@dataclass(frozen=True)
class StepOutput:
    """An output of a step."""

    step_id: str
    kind: OutputKind = OutputKind.IMAGES


@dataclass(frozen=True)
class Binding:
    """What fills an input of a step: a parameter by name, or an output; None is neither."""

    input: str
    source: str | StepOutput | None


@dataclass(frozen=True)
class Condition:
    """An output that must be true, or with `negated` false."""

    output: StepOutput
    negated: bool = False


class FailurePolicy(Enum):
    """What is done when a step fails for good."""

    STOP = "stop"
    CONTINUE = "continue"
    IGNORE = "ignore"


@dataclass(frozen=True)
class Retries:
    """How often a step is tried, and the seconds before the second try, doubled each time."""

    max_attempts: int = int(default_of("RetrySettings.max_attempts"))
    backoff_seconds: float = default_of("RetrySettings.backoff")


@dataclass(frozen=True)
class Step:
    """A step of a graph. `work` is the name of what it does; empty where it does nothing."""

    step_id: str
    work: str
    bindings: tuple[Binding, ...] = ()
    condition: Condition | None = None
    after: tuple[str, ...] = ()
    for_each: str = ""
    retries: Retries = field(default_factory=Retries)
    on_failure: FailurePolicy = FailurePolicy.STOP

    @property
    def sources(self) -> tuple[StepOutput, ...]:
        """The outputs that fill its inputs."""
        return tuple(
            binding.source
            for binding in self.bindings
            if isinstance(binding.source, StepOutput)
        )

    @property
    def needs(self) -> frozenset[str]:
        """The steps that must have ended before it begins."""
        named = {output.step_id for output in self.sources}
        if self.condition is not None:
            named.add(self.condition.output.step_id)
        return frozenset({*named, *self.after})


@dataclass(frozen=True)
class Graph:
    """A workflow without what its steps do."""

    workflow_id: str
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    result_step_ids: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[str, ...]:
        """The steps whose pictures are a run's result: those named, or those nothing uses."""
        if self.result_step_ids:
            return self.result_step_ids
        used = {name for step in self.steps for name in step.needs}
        return tuple(step.step_id for step in self.steps if step.step_id not in used)


Arguments = Mapping[str, WorkflowValue]
Inputs = Mapping[str, tuple[WorkflowValue, ...]]
"""What fills the inputs of a step, by their paths, in the order of their bindings."""


@dataclass(frozen=True)
class Target:
    """What an input of a step takes: values of these kinds, several of them in a list, of a
    choice one of these names."""

    kinds: frozenset[ValueKind]
    repeated: bool = False
    choices: tuple[str, ...] = ()


class Ending(Enum):
    """How a step ended."""

    DONE = "done"
    FAILED = "failed"
    BARRED = "barred"
    """It did not run: one that it needs failed, or is barred itself."""
    SKIPPED = "skipped"
    """It was not to run: its condition did not hold, or nothing came to an input of it."""


@dataclass(frozen=True)
class Ended:
    """A step, or a run of one that fans out, once it has ended, with what it gives; `trusted`
    is None where nobody looked."""

    ending: Ending
    images: tuple[ImageResult, ...] = ()
    model_id: str = ""
    trusted: bool | None = None
    allocation_id: str = ""
    device_id: str = ""

    def output(self, kind: OutputKind) -> WorkflowValue | None:
        """The output of that kind; None where it has none."""
        files = tuple(image.artifact_id for image in self.images if not image.withheld)
        if kind is OutputKind.IMAGES and files:
            return WorkflowValue(ValueKind.IMAGES, files)
        if kind is OutputKind.SEED and self.images and self.images[0].seed is not None:
            return WorkflowValue(ValueKind.INTEGER, self.images[0].seed)
        if kind is OutputKind.FLAGGED and self.images:
            return WorkflowValue(ValueKind.BOOL, any(image.flagged for image in self.images))
        if kind is OutputKind.MODEL and self.model_id:
            return WorkflowValue(ValueKind.MODEL, self.model_id)
        if kind is OutputKind.TRUSTED and self.trusted is not None:
            return WorkflowValue(ValueKind.BOOL, self.trusted)
        if kind is OutputKind.ALLOCATION and self.allocation_id:
            return WorkflowValue(ValueKind.TEXT, self.allocation_id)
        if kind is OutputKind.DEVICE and self.device_id:
            return WorkflowValue(ValueKind.TEXT, self.device_id)
        return None


@dataclass(frozen=True)
class StepForecast:
    """What one run of a step is expected to take, as far as anybody knows, with the models that
    it uses and the pictures that it makes. `runs` is how often it runs."""

    model_ids: tuple[str, ...] = ()
    memory: ByteFigure | None = None
    seconds: float | None = None
    image_count: int = 0
    runs: int = 1


@dataclass(frozen=True)
class StepVerdict:
    """What the service of a step says of it. Fields are paths in the workflow: `unbuilt` are
    those that this version does nothing with; `error` is what else would be raised."""

    violations: tuple[FieldViolation, ...] = ()
    unbuilt: tuple[str, ...] = ()
    error: DomainError | None = None
    forecast: StepForecast | None = None


@dataclass(frozen=True)
class Judgement:
    """What running a workflow would come to; as in `StepVerdict`, of all steps. `order` is one
    that the steps can run in, `forecasts` are by step."""

    violations: tuple[FieldViolation, ...] = ()
    unbuilt: tuple[str, ...] = ()
    error: DomainError | None = None
    order: tuple[str, ...] = ()
    forecasts: Mapping[str, StepForecast] = field(default_factory=dict)


class StoredWorkflow(Value, frozen=True):
    """A workflow that is kept: its message as bytes, and what the server knows of it. One that
    comes with the server has no owner."""

    workflow_id: Name
    owner: Text
    version: Annotated[int, Meta(ge=1, lt=2**31)]
    create_time: Moment | None
    body: Annotated[bytes, Meta(max_length=4 * 2**20)]
    built_in: bool = False
