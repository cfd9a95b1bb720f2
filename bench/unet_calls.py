"""How long a step of a denoising loop takes, told by when UNets are called."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Taken:
    """Seconds on the wall and of the processor, all threads together."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Taken:
        """Since some moment that is always the same."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Taken) -> Taken:
        """From one to the other."""
        return Taken(self.wall - other.wall, self.processor - other.processor)


class Calls:
    """When UNets were called, loop by loop: one network with one size of latents."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, torch.Size], list[Taken]] = defaultdict(list)

    def note(self, network: object, sample: torch.Tensor) -> None:
        """A call begins."""
        self._starts[id(network), sample.shape].append(Taken.now())

    def forget(self) -> None:
        """Begin with nothing noted."""
        self._starts.clear()

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(map(len, self._starts.values()))

    def per_step(self) -> Taken:
        """What passes from a call to the next of its loop, the mean of all: all that a step
        does is in it, whichever network does it, and nothing that is done between loops.

        Some loop must have had two steps.
        """
        loops = [starts[-1] - starts[0] for starts in self._starts.values()]
        steps = self.count - len(loops)
        return Taken(
            sum(loop.wall for loop in loops) / steps,
            sum(loop.processor for loop in loops) / steps,
        )


@contextmanager
def noted_calls() -> Iterator[Calls]:
    """Note the calls of every UNet of this process, whoever makes them."""
    calls, network = Calls(), cast(Any, UNet2DConditionModel)
    plain = network.forward

    @functools.wraps(plain)
    def forward(self: object, sample: torch.Tensor, *rest: object, **how: object) -> object:
        calls.note(self, sample)
        return plain(self, sample, *rest, **how)

    network.forward = forward
    try:
        yield calls
    finally:
        network.forward = plain
