"""The tensors of a file as recognition looks at them: by the beginnings of their names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

from domains.model.backends.safetensors_header import Header

Shape = tuple[int, ...]


class Tensors:
    """Names, shapes and element types of a file's tensors, and its own words about itself.

    Args:
        shapes: By name.
        data_types: By name, as safetensors calls them; those left out are F16.
        metadata: The header's texts.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        data_types: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.shapes = shapes
        self.data_types = data_types or {}
        self.metadata = metadata or {}
        self._sorted = sorted(shapes)

    @classmethod
    def of(cls, header: Header) -> Tensors:
        """Those of a safetensors header."""
        return cls(
            {tensor.name: tensor.shape for tensor in header.tensors},
            {tensor.name: tensor.data_type for tensor in header.tensors},
            header.metadata,
        )

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def has(self, start: str) -> bool:
        """Whether a tensor's name begins so; a whole name does, too."""
        place = bisect_left(self._sorted, start)
        return place < len(self._sorted) and self._sorted[place].startswith(start)

    def has_any(self, starts: Iterable[str]) -> bool:
        """Whether a name begins with one of these."""
        return any(map(self.has, starts))

    def has_all(self, starts: Iterable[str]) -> bool:
        """Whether there is a name for each of these beginnings."""
        return all(map(self.has, starts))

    def only(self, *starts: str) -> bool:
        """Whether every name begins with one of these."""
        return all(name.startswith(starts) for name in self._sorted)

    def size(self, name: str, axis: int) -> int:
        """One dimension of a tensor; 0 where there is no such tensor or dimension."""
        shape = self.shapes.get(name, ())
        return shape[axis] if -len(shape) <= axis < len(shape) else 0

    def below(self, prefix: str) -> Tensors:
        """The tensors whose names begin so, without that beginning."""
        if not prefix:
            return self
        start = bisect_left(self._sorted, prefix)
        names = []
        for name in self._sorted[start:]:
            if not name.startswith(prefix):
                break
            names.append(name)
        cut = len(prefix)
        return Tensors(
            {name[cut:]: self.shapes[name] for name in names},
            {name[cut:]: self.data_types[name] for name in names if name in self.data_types},
            self.metadata,
        )

    def unwrapped(self, wrappers: Iterable[str]) -> Tensors:
        """Without a beginning that all names have in common, if it is one of these."""
        for wrapper in wrappers:
            if self._sorted and self.only(wrapper):
                return self.below(wrapper)
        return self

    def ending(self, *ends: str) -> Iterator[str]:
        """The names that end with one of these."""
        return (name for name in self._sorted if name.endswith(ends))

    def count(self, start: str) -> int:
        """How many numbers follow a beginning: `blocks.` has as many as `blocks.0.` on."""
        number = 0
        while self.has(f"{start}{number}."):
            number += 1
        return number
