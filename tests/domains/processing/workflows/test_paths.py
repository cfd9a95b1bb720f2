"""Inputs of steps by their paths: what they take, and what is put there."""

from __future__ import annotations

import pytest

from deviceops.v1 import common_pb2, conditioning_pb2, sampling_pb2, workflow_pb2
from domains.errors import InvalidArgument, Reason
from domains.processing.workflows.convert.paths import NoSuchInput, exclusions, put, target
from domains.processing.workflows.types import Target, ValueKind, WorkflowValue

Work = workflow_pb2.GenerateWork


def work() -> workflow_pb2.GenerateWork:
    """A generation with a LoRA, a ControlNet and something to start from."""
    made = Work()
    made.settings.loras.add(model_id="a")
    made.settings.control_nets.add(model_id="b")
    made.settings.image_to_image.strength = 0.4
    return made


TARGETS = {
    "settings.prompt": Target(frozenset({ValueKind.TEXT})),
    "settings.model_id": Target(frozenset({ValueKind.MODEL})),
    "settings.embedding_model_ids": Target(frozenset({ValueKind.MODEL}), repeated=True),
    "settings.steps": Target(frozenset({ValueKind.INTEGER})),
    "settings.seeds": Target(frozenset({ValueKind.INTEGER}), repeated=True),
    "settings.loras[0].weight": Target(frozenset({ValueKind.NUMBER})),
    "settings.seamless_vertically": Target(frozenset({ValueKind.BOOL})),
    "settings.image_to_image.image": Target(frozenset({ValueKind.IMAGES})),
    "settings.control_nets[0].images": Target(frozenset({ValueKind.IMAGES}), repeated=True),
}


@pytest.mark.parametrize("path", TARGETS)
def test_a_field_takes_values_of_its_kind(path: str) -> None:
    assert target(work(), path) == TARGETS[path]


def test_a_choice_has_the_names_of_its_enum() -> None:
    found = target(work(), "settings.scheduler.scheduler")
    assert found.kinds == {ValueKind.CHOICE}
    assert {"EULER_DISCRETE", "DDIM"} <= set(found.choices)
    assert not any(name.startswith("SCHEDULER_") for name in found.choices)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "names of fields"),
        ("settings.", "names of fields"),
        ("settings.propmt", "no field propmt"),
        ("settings.prompt.text", "no fields"),
        ("settings.prompt[0]", "no list"),
        ("settings.loras.weight", "name an element"),
        ("settings.loras[1].weight", "no element 1"),
        ("settings.guidance", "fields of its own"),
        ("settings.inpainting.image", "excludes image_to_image"),
        ("settings.image_to_image.image.inline", "bytes"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(path: str, why: str) -> None:
    with pytest.raises(NoSuchInput, match=why):
        target(work(), path)


def test_two_inputs_of_which_one_can_be_set_exclude_each_other() -> None:
    inputs = ["settings.image_to_image.image", "settings.prompt", "settings.inpainting.image"]
    assert [path for path, _ in exclusions(Work(), inputs)] == [inputs[2]]


def value(kind: ValueKind, given: str | float | bool) -> WorkflowValue:
    return WorkflowValue(kind, given)


def test_values_are_put_where_they_are_bound() -> None:
    into = work()
    pictures = (common_pb2.InputImage(artifact_id="b" * 64), "a" * 64)
    put(into, "settings.prompt", [value(ValueKind.TEXT, "a cat")])
    put(into, "settings.loras[0].weight", [value(ValueKind.INTEGER, 2)])
    put(into, "settings.scheduler.scheduler", [value(ValueKind.CHOICE, "DDIM")])
    put(into, "settings.seeds", [value(ValueKind.INTEGER, 1), value(ValueKind.INTEGER, 2)])
    put(into, "settings.control_nets[0].images", [WorkflowValue(ValueKind.IMAGES, pictures)])
    one = WorkflowValue(ValueKind.IMAGES, pictures[1:])
    put(into, "settings.image_to_image.image", [one])
    settings = into.settings
    assert (settings.prompt, settings.loras[0].weight) == ("a cat", 2.0)
    assert settings.scheduler.scheduler == sampling_pb2.SCHEDULER_DDIM
    assert list(settings.seeds) == [1, 2]
    assert settings.control_nets[0] == conditioning_pb2.ControlNetGuidance(
        model_id="b",
        images=[
            common_pb2.InputImage(artifact_id="b" * 64),
            common_pb2.InputImage(artifact_id="a" * 64),
        ],
    )
    assert settings.image_to_image.image.artifact_id == "a" * 64
    assert settings.image_to_image.strength == 0.4


@pytest.mark.parametrize(
    ("path", "values", "reason"),
    [
        ("settings.steps", [value(ValueKind.INTEGER, 2**40)], Reason.FIELD_OUT_OF_RANGE),
        ("settings.seeds", [value(ValueKind.INTEGER, -(2**70))], Reason.FIELD_OUT_OF_RANGE),
        (
            "settings.scheduler.scheduler",
            [value(ValueKind.CHOICE, "NONE")],
            Reason.ENUM_VALUE_UNKNOWN,
        ),
        (
            "settings.image_to_image.image",
            [WorkflowValue(ValueKind.IMAGES, ("a", "b"))],
            Reason.FIELDS_CONFLICT,
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    path: str, values: list[WorkflowValue], reason: Reason
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        put(work(), path, values)
    (violation,) = refused.value.violations
    assert (violation.field, violation.reason) == (path, reason)


def test_an_argument_of_a_workflow_is_bound_by_its_name() -> None:
    into = workflow_pb2.RunWorkflowWork(workflow_id="other")
    assert target(into, "arguments.a.b").kinds == frozenset(ValueKind)
    put(into, "arguments.a.b", [value(ValueKind.NUMBER, 0.5)])
    pictures = WorkflowValue(ValueKind.IMAGES, ("a",))
    put(into, "arguments.pictures", [pictures])
    assert into.arguments["a.b"].number == 0.5
    assert into.arguments["pictures"].images.images[0].artifact_id == "a"


def test_a_text_goes_under_a_name() -> None:
    keeping = workflow_pb2.StoreWork(labels={"project": "sky"})

    assert target(keeping, "labels.stage").kinds == {ValueKind.TEXT}
    put(keeping, "labels.stage", [value(ValueKind.TEXT, "final")])
    put(keeping, "labels.project", [value(ValueKind.TEXT, "sea")])

    assert dict(keeping.labels) == {"project": "sea", "stage": "final"}
    with pytest.raises(NoSuchInput, match=r"bind one, labels\.NAME"):
        target(keeping, "labels")
