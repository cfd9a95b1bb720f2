"""Every field of the settings can be set by its path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from deviceops.v1 import common_pb2, finishing_pb2, generation_pb2, inference_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import put, set_field
from tests.server.cli.conftest import Run
from tests.server.cli.messages import png, whole
from tests.server.cli.scripted import ScriptedServer

PICTURE = common_pb2.InputImage(artifact_id="a" * 64)


def paths(message: Descriptor, before: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Every path to a plain field or a picture, one element deep into lists."""
    for field in message.fields:
        path = f"{before}{field.name}"
        inner = field.message_type
        element = path + ".0" if inner is not None and field.is_repeated else path
        if inner is None or inner.name == "InputImage":
            yield element, field
        else:
            yield from paths(inner, f"{element}.")


def text_for(field: FieldDescriptor) -> tuple[str, Any]:
    """What a person writes, and what the field holds then."""
    if field.message_type is not None:
        return "picture.png", PICTURE
    if field.enum_type is not None:
        first = field.enum_type.values_by_number[1]
        return first.name, 1
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "yes", True
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "one two", "one two"
    return "1", 1


@pytest.mark.parametrize(
    ("path", "field"),
    [
        pytest.param(path, field, id=path)
        for path, field in paths(generation_pb2.GenerationSettings.DESCRIPTOR)
    ],
)
def test_every_field_is_reached(path: str, field: FieldDescriptor) -> None:
    settings = generation_pb2.GenerationSettings()
    text, expected = text_for(field)

    set_field(settings, f"{path}={text}", lambda _: PICTURE)

    found: Any = settings
    for name in path.split("."):
        found = found[int(name)] if name.isdecimal() else getattr(found, name)
    assert (list(found) if field.is_repeated and not path.endswith(".0") else found) == (
        [expected] if field.is_repeated and not path.endswith(".0") else expected
    )
    assert len(settings.ListFields()) == 1


def test_lists_take_commas_and_elements_come_in_turn() -> None:
    settings = generation_pb2.GenerationSettings()
    for assignment in (
        "seeds=3, 4,5",
        "loras.0.model_id=a",
        "loras.1.model_id=b",
        "loras.0.weight=-0.5",
        "scheduler.timestep_spacing=trailing",
        "prompt=a=b, c",
        "scheduler.solver=",
    ):
        set_field(settings, assignment, lambda _: PICTURE)

    assert list(settings.seeds) == [3, 4, 5]
    assert [(lora.model_id, lora.weight) for lora in settings.loras] == [("a", -0.5), ("b", 0)]
    assert settings.scheduler.timestep_spacing == 2
    assert settings.prompt == "a=b, c"
    assert settings.scheduler.HasField("solver")


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("steps", "not PATH=VALUE"),
        ("stepz=3", "no field 'stepz', only prompt"),
        ("guidance.stepz=3", "GuidanceSettings has no field"),
        ("steps.x=3", "steps has no fields"),
        ("steps=many", "'many' is no whole number"),
        ("steps=1e3", "no whole number"),
        ("steps=99999999999", "--set steps: Value out of range"),
        ("guidance.scale=much", "no number"),
        ("guidance=7", "takes no value itself"),
        ("seamless_vertically=perhaps", "neither yes nor no"),
        ("scheduler.spacing=odd", "none of: karras, exponential, beta, even"),
        ("scheduler.spacing=unspecified", "none of"),
        ("loras.1.weight=1", "0 to 0"),
        ("loras.weight=1", "is a list"),
        ("loras=x", "is a list"),
        ("=x", "no field ''"),
    ],
)
def test_what_cannot_be_set_is_said(assignment: str, said: str) -> None:
    settings = generation_pb2.GenerationSettings()
    with pytest.raises(UnusableOptions, match="--set") as caught:
        set_field(settings, assignment, lambda _: PICTURE)
    assert said in str(caught.value)


def test_bytes_are_given_as_the_file_that_holds_them(tmp_path: Path) -> None:
    (tmp_path / "warm.cube").write_bytes(b"LUT_1D_SIZE 2\n")
    step = finishing_pb2.LutStep()

    put(step, "cube", str(tmp_path / "warm.cube"), lambda _: PICTURE)

    assert step.cube == b"LUT_1D_SIZE 2\n"
    with pytest.raises(UnusableOptions, match="No such file"):
        put(step, "cube", str(tmp_path / "cold.cube"), lambda _: PICTURE)


def test_generate_sets_fields_after_its_options(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    asked: list[inference_pb2.GenerateRequest] = []

    def answer(request: inference_pb2.GenerateRequest, context: Any) -> Any:
        asked.append(request)
        return whole(png())

    scripted.on_generate = answer
    (tmp_path / "mask.png").write_bytes(png())
    done = against(
        *("generate", "x", "--steps", "4", "--set", "steps=3", "--set", "guidance.end=0.5"),
        *("--set", f"inpainting.mask={tmp_path / 'mask.png'}", "-o", tmp_path / "out"),
    )

    assert done.exit_code == 0, done.output
    assert asked[0].settings.steps == 3
    assert asked[0].settings.guidance.end == 0.5
    assert asked[0].settings.inpainting.mask.inline == png()


def test_generate_says_which_assignment_is_wrong(against: Run) -> None:
    done = against("generate", "x", "--set", "stepz=3")

    assert done.exit_code == 2
    assert "--set stepz" in done.output
