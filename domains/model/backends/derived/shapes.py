"""Counting in tables of names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from domains.errors import FailedPrecondition
from domains.model.backends.stored_weights import incomplete

Shapes = Mapping[str, tuple[int, ...]]


class Told:
    """What the tensors of a network tell.

    Args:
        component: The network's name, for messages.
        shapes: By the names that folders have.
    """

    def __init__(self, component: str, shapes: Shapes) -> None:
        self._component = component
        self.shapes = shapes

    def size(self, name: str, dimension: int) -> int:
        """One size of a tensor.

        Raises:
            FailedPrecondition: MODEL_INCOMPLETE: there is no such tensor, or it has fewer
                dimensions than all of its kind.
        """
        shape = self.shapes.get(name, ())
        if len(shape) <= dimension:
            raise self.missing(name)
        return shape[dimension]

    def missing(self, name: str) -> FailedPrecondition:
        """MODEL_INCOMPLETE that names a tensor."""
        return incomplete(self._component, [name], [])

    def has(self, start: str) -> bool:
        """Whether a name begins so."""
        return any(name.startswith(start) for name in self.shapes)

    def count(self, start: str) -> int:
        """How many numbers from 0 on follow `start` in names, each with a dot behind it."""
        pattern = re.compile(re.escape(start) + r"(\d{1,3})\.")
        found = {int(match[1]) for match in map(pattern.match, self.shapes) if match}
        return next(number for number in range(len(found) + 1) if number not in found)


def one_or_all(values: list[Any]) -> Any:
    """A value where all are the same, else the list."""
    return values[0] if values and all(value == values[0] for value in values) else values
