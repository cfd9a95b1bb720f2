"""A plan the other way round: the tensors of a single file, and what fills each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domains.model.backends.checkpoint_kinds.kind import Part
from domains.model.backends.layouts.open_clip import is_projection
from domains.model.backends.layouts.vae import attends
from domains.model.backends.model_plan import NetworkPlan, Origin
from domains.model.backends.stored_weights import incomplete


@dataclass(frozen=True)
class OriginalTensor:
    """A tensor in the original layout.

    Attributes:
        name: In the file, with its prefix.
        shape: In the file.
        origins: Whose numbers it has, one below the other.
        transposed: Whether the two dimensions of its only origin change places.
    """

    name: str
    shape: tuple[int, ...]
    origins: tuple[Origin, ...]
    transposed: bool = False


def original_tensors(part: Part, network: NetworkPlan) -> Iterator[OriginalTensor]:
    """The tensors of a network as a single file has them.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE for a tensor that the original has no name for, or
            whose counterparts are missing.
    """
    fills = part.names(network.tensors)
    used = {name for names in fills.values() for name in names}
    _refuse(
        network, sorted(used - network.tensors.keys()), sorted(network.tensors.keys() - used)
    )
    for name, names in fills.items():
        origins = tuple(network.tensors[each] for each in names)
        first = origins[0].shape
        if is_projection(name):
            yield OriginalTensor(f"{part.prefix}{name}", first[::-1], origins, transposed=True)
            continue
        shape = (sum(origin.shape[0] for origin in origins), *first[1:])
        # Stored as a convolution of one pixel.
        flat = attends(name) and len(shape) == 2
        yield OriginalTensor(f"{part.prefix}{name}", (*shape, 1, 1) if flat else shape, origins)


def _refuse(network: NetworkPlan, missing: list[str], unexpected: list[str]) -> None:
    if missing or unexpected:
        raise incomplete(network.name, missing, unexpected)
