"""Steps of a chain as a person writes them: `sharpen`, `crop:left=8,top=8,width=20`."""

from __future__ import annotations

import re

from deviceops.v1 import finishing_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture, put

_NEXT_FIELD = re.compile(r",(?=[a-z_]+=)")


def parse_step(
    text: str, picture: Picture, option: str = "--step"
) -> finishing_pb2.PostprocessingStep:
    """A step as a person writes it: `NAME`, or `NAME:FIELD=VALUE,FIELD=VALUE`.

    Args:
        text: What they wrote.
        picture: Makes a picture of what they name one.
        option: With which option.

    Raises:
        UnusableOptions: There is no such step or field, or it cannot hold the value.
    """
    name, _, fields = text.partition(":")
    name = name.strip().replace("-", "_")
    step = finishing_pb2.PostprocessingStep()
    if name not in step.DESCRIPTOR.fields_by_name:
        known = ", ".join(step.DESCRIPTOR.fields_by_name).replace("_", "-")
        raise UnusableOptions(f"{option} {text}: there is no step {name!r}, only {known}")
    inner = getattr(step, name)
    inner.SetInParent()
    for assignment in _NEXT_FIELD.split(fields) if fields else ():
        path, equals, value = assignment.partition("=")
        if not equals:
            raise UnusableOptions(f"{option} {text}: {assignment!r} is not FIELD=VALUE")
        try:
            put(inner, path, value, picture)
        except UnusableOptions as error:
            raise UnusableOptions(f"{option} {text}: {error}") from error
    return step
