"""What a person gives a workflow, as values of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from deviceops.v1 import workflow_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture
from server.cli.wording import enum_word

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def arguments(
    workflow: workflow_pb2.Workflow,
    values: Iterable[str],
    pictures: Iterable[str],
    picture: Picture,
) -> Mapping[str, workflow_pb2.WorkflowValue]:
    """The arguments of a run.

    Args:
        workflow: Whose; its parameters say of what kind a value is.
        values: `name=value` each.
        pictures: `name=picture` each; one name several times is several pictures.
        picture: Makes of what a person names a picture.

    Raises:
        UnusableOptions: One is not of that form, names no parameter, or is of another kind.
    """
    kinds = {each.name: each.kind for each in workflow.parameters}
    made: dict[str, workflow_pb2.WorkflowValue] = {}
    for name, text in _pairs("--set", values, kinds):
        made[name] = _value(name, text, kinds[name])
    for name, text in _pairs("--image", pictures, kinds):
        if kinds[name] != workflow_pb2.VALUE_KIND_IMAGES:
            raise UnusableOptions(f"{name} takes no pictures: give it with --set {name}=...")
        made.setdefault(name, workflow_pb2.WorkflowValue()).images.images.append(picture(text))
    return made


def kind_words(kind: workflow_pb2.ValueKind.ValueType) -> str:
    """A kind for people: `text`."""
    return enum_word(workflow_pb2.ValueKind, kind, "VALUE_KIND_")


def value_words(value: workflow_pb2.WorkflowValue) -> str:
    """A value for people; of pictures their number."""
    field = value.WhichOneof("value")
    if field is None:
        return ""
    if field == "images":
        return f"{len(value.images.images)} pictures"
    return str(getattr(value, field))


def _pairs(
    option: str, given: Iterable[str], known: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    for each in given:
        name, equals, text = each.partition("=")
        if not equals:
            raise UnusableOptions(f"{option} {each}: write NAME=VALUE")
        if name not in known:
            names = ", ".join(known) or "none"
            raise UnusableOptions(f"{option} {each}: the workflow has the parameters {names}")
        yield name, text


def _value(
    name: str, text: str, kind: workflow_pb2.ValueKind.ValueType
) -> workflow_pb2.WorkflowValue:
    Value = workflow_pb2.WorkflowValue
    try:
        match kind:
            case workflow_pb2.VALUE_KIND_TEXT:
                return Value(text=text)
            case workflow_pb2.VALUE_KIND_MODEL:
                return Value(model_id=text)
            case workflow_pb2.VALUE_KIND_NUMBER:
                return Value(number=float(text))
            case workflow_pb2.VALUE_KIND_INTEGER:
                return Value(integer=int(text))
            case workflow_pb2.VALUE_KIND_CHOICE:
                return Value(choice=text.upper().replace("-", "_"))
            case workflow_pb2.VALUE_KIND_BOOL if text.lower() in (*_TRUE, *_FALSE):
                return Value(boolean=text.lower() in _TRUE)
    except ValueError:
        pass
    if kind == workflow_pb2.VALUE_KIND_IMAGES:
        raise UnusableOptions(f"{name} takes pictures: give them with --image {name}=...")
    raise UnusableOptions(f"--set {name}={text}: must be of the kind {kind_words(kind)}")
