"""What the classes of networks have in common; each has its table in a module beside this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from domains.model.backends.bounds import ConfigBounds

Shape = tuple[int | None, ...]
"""Of a tensor; None where a size follows from several keys at once."""

Tensors = Iterator[tuple[str, Shape]]
"""Names and shapes of tensors."""


@dataclass(frozen=True)
class NetworkClass:
    """A class of networks, built from a configuration within its bounds.

    Attributes:
        library: `diffusers`, `transformers` or `ours`. A class gets those keys of its table
            that it knows and no other: a configuration may otherwise ask for code from the
            network.
        name: As the library calls it.
        bounds: Of its configuration: every key that the class has.
        tensors: Given a configuration within its bounds, some of the tensors that such a
            network has: one of each layer at least, with the sizes that decide its cost.
        defaults: The constructor's own, of keys that are read here as well.
    """

    library: str
    name: str
    bounds: ConfigBounds
    tensors: Callable[[Mapping[str, Any]], Tensors]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights_name(self) -> str:
        """What files of its weights are called, without variant and ending."""
        return "model" if self.library == "transformers" else "diffusion_pytorch_model"


def per_block(value: Any, blocks: int) -> list[Any]:
    """A value that is the same for every block, or listed block by block, as a list."""
    return list(value) if isinstance(value, list) else [value] * blocks
