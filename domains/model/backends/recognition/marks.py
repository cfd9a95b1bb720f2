"""Marks: beginnings of tensor names that only one kind of file has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.tensors import Shape, Tensors


@dataclass(frozen=True)
class Mark:
    """A kind of file and how to tell it.

    Attributes:
        answer: What the file is.
        every: Beginnings of names, each of which some tensor has.
        some: Beginnings of names, one of which some tensor has; none asked where empty.
        none: Beginnings of names that no tensor has.
        dimensions: Numbers of dimensions of tensors, by their whole names.
    """

    answer: Recognised
    every: tuple[str, ...] = ()
    some: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    dimensions: tuple[tuple[str, int], ...] = field(default=())

    def fits(self, tensors: Tensors) -> bool:
        """Whether a file has the mark."""
        shapes = tensors.shapes
        no_shape: Shape = ()
        return (
            tensors.has_all(self.every)
            and (not self.some or tensors.has_any(self.some))
            and not tensors.has_any(self.none)
            and all(len(shapes.get(name, no_shape)) == n for name, n in self.dimensions)
        )


def first_fitting(marks: Iterable[Mark], tensors: Tensors) -> Recognised | None:
    """The answer of the first mark that a file has."""
    return next((mark.answer for mark in marks if mark.fits(tensors)), None)
