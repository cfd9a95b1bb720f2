"""Where LoRAs at work lie: in the same places as those of the same form before them.

So a call that was recorded with one serves every other whose tensors have the same shapes at
the same layers, however strongly it works: the numbers in the places are other ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from weakref import WeakValueDictionary

import torch

from domains.inference.backends.network_state import Places


class FilledPlaces(Places):
    """Places for the tensors and factors of all LoRAs at work on a network.

    Args:
        form: What they are for.
        like: Tensors of the same form, at least one.
        count: How many factors there are.
    """

    def __init__(self, form: Hashable, like: Sequence[torch.Tensor], count: int) -> None:
        self.form = form
        self.own = tuple(
            torch.empty_strided(
                each.shape, each.stride(), dtype=each.dtype, device=each.device
            ).requires_grad_(each.requires_grad)
            for each in like
        )
        self._factors = torch.empty(count, dtype=torch.float32, device=like[0].device)
        self.factors = tuple(self._factors[number : number + 1] for number in range(count))
        """Each `[1]`."""
        super().__init__((*self.own, self._factors))

    def fill(self, tensors: Sequence[torch.Tensor], factors: Sequence[float]) -> None:
        """Have these numbers in the places."""
        with torch.no_grad():
            for place, tensor in zip(self.own, tensors, strict=True):
                place.copy_(tensor)
            self._factors.copy_(torch.tensor(factors, dtype=torch.float32))


class LoraPlaces:
    """Lends places to LoRAs of one network; nobody else has them until they are given back.

    What nobody refers to is gone: recorded calls decide how long places last.
    """

    def __init__(self) -> None:
        self._idle: WeakValueDictionary[Hashable, FilledPlaces] = WeakValueDictionary()

    def lend(
        self, what: Hashable, tensors: Sequence[torch.Tensor], factors: Sequence[float]
    ) -> FilledPlaces:
        """Places with these numbers in them: the last ones of that form if they are there yet.

        Args:
            what: What is done with them.
            tensors: At least one.
            factors: They become float32.

        Raises:
            Exception: As torch raises it where there is no memory for them.
        """
        form = (what, len(factors), tuple(map(_form, tensors)))
        places = self._idle.pop(form, None) or FilledPlaces(form, tensors, len(factors))
        places.fill(tensors, factors)
        return places

    def give_back(self, places: FilledPlaces) -> None:
        """Nobody works with them now."""
        self._idle[places.form] = places


def _form(tensor: torch.Tensor) -> Hashable:
    return (tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad)
