"""The denoising loops of one picture, so that they can be kept and taken up again.

Of a finished loop only the latents are kept that it came to, of the one that is under way also
what its scheduler holds, and of each what the picture's generator would give next. What lies
between the loops is done again from these: it depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from domains.inference.backends.kept_picture import (
    KeptLoop,
    KeptPicture,
    KeptTensor,
    kept,
    plain,
)
from domains.session.jobs import WorkPaused

_OF_SETTINGS = frozenset({"_internal_dict", "share"})
"""What a scheduler has of the request and its model, and the next one has as well."""


@dataclass
class Loop:
    """A denoising loop as it goes: what it has come to after its last whole step.

    `latents` are None before the first step. `calls` counts calls of the UNet, `steps` what
    the user counts.
    """

    scheduler: Any
    generator: torch.Generator
    calls: int = 0
    steps: int = 0
    latents: torch.Tensor | None = None
    finished: bool = False
    _whole: bool = True
    _left_with: torch.Tensor | None = None  # the generator's state; later loops may share it

    def check(self, check_stop: Callable[[], None]) -> None:
        """Stop where somebody asks for it; for a pause only between whole steps."""
        with nullcontext() if self._whole else suppress(WorkPaused):
            check_stop()

    def note(self, latents: torch.Tensor, *, whole: bool) -> None:
        """The UNet was called once more; `whole`: a step has ended with that."""
        self.calls += 1
        self._whole = whole
        if whole:
            self.latents, self.steps = latents, self.steps + 1

    def finish(self, latents: torch.Tensor) -> None:
        """It has come to this; what follows takes the generator's numbers from here on."""
        self.latents, self.finished = latents, True
        self._left_with = self.generator.get_state()

    def as_kept(self) -> KeptLoop:
        """The loop as values; it has latents.

        Raises:
            NotKept: Its scheduler holds what cannot be kept.
        """
        assert self.latents is not None, "a step has ended"
        state = {
            name: kept(value)
            for name, value in vars(self.scheduler).items()
            if name not in _OF_SETTINGS
        }
        return KeptLoop(
            self.calls,
            self.steps,
            KeptTensor.of(self.latents),
            KeptTensor.of(
                self.generator.get_state() if self._left_with is None else self._left_with
            ),
            None if self.finished else state,
        )

    def take_up(self, loop: KeptLoop, device: torch.device) -> None:
        """Be where that one was."""
        for name, value in (loop.scheduler or {}).items():
            setattr(self.scheduler, name, plain(value, device))
        state = loop.generator.tensor(device)
        self.generator.set_state(state)
        self._left_with = state if loop.scheduler is None else None
        self.calls, self.steps = loop.calls, loop.steps
        self.latents, self.finished = loop.latents.tensor(device), loop.scheduler is None


@dataclass
class PictureLoops:
    """The loops of one picture in their order; the first are where those that were kept were.

    `widened` is whether its UNet computes in float32 because it had overflowed.
    """

    kept: tuple[KeptLoop, ...] = ()
    widened: bool = False
    _loops: list[Loop] = field(default_factory=list)

    def next(self, scheduler: Any, generator: torch.Generator, device: torch.device) -> Loop:
        """The next loop.

        To be called once everything before it has taken its numbers from `generator`.

        Args:
            scheduler: Fresh, its timesteps set.
            generator: The picture's; if the loop was kept, it gives from here on what it
                would have given then.
            device: Where the loop's latents are.
        """
        loop = Loop(scheduler, generator)
        if len(self._loops) < len(self.kept):
            loop.take_up(self.kept[len(self._loops)], device)
        self._loops.append(loop)
        return loop

    def forget_last(self) -> None:
        """The last loop is done again in a way that is not kept."""
        self._loops.pop()

    def begin_again(self, *, widened: bool) -> None:
        """The picture is drawn anew from its seed."""
        self.kept, self.widened = (), widened
        self._loops.clear()

    @property
    def kept_steps(self) -> int:
        """Steps that were done before."""
        return sum(loop.steps for loop in self.kept)

    @property
    def steps(self) -> int:
        """Steps that are done by now."""
        return sum(loop.steps for loop in self._loops)

    def as_kept(self, fingerprint: str, image_index: int) -> KeptPicture:
        """The picture as it is now.

        Raises:
            NotKept: It cannot be kept.
        """
        loops = tuple(loop.as_kept() for loop in self._loops if loop.latents is not None)
        return KeptPicture(fingerprint, image_index, self.widened, loops)
