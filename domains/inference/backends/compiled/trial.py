"""Compiled code against the module itself: whether it is right, and faster."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.step_graphs import Recorder, Strokes
from domains.inference.backends.trial_time import shortest_seconds

# Of a call; less is not worth another way of rounding.
_LEAST_GAIN = 0.05
# So often each is timed in turn before code is found too slow, which is remembered for good.
_ROUNDS = 3
_log = logging.getLogger("deviceops.compiled")


class Inconclusive(Exception):
    """What the module itself gives for these arguments is nothing to compare with."""


@dataclass(frozen=True)
class CodeTrial:
    """Tries code of a module.

    `name` is the module's, for the log; `recorder` how its calls will be recorded, None where
    they will not: they are compared so.
    """

    name: str
    module: Any
    strokes: Strokes
    recorder: Recorder | None

    def against(self, leaves: tuple[Any, ...], form: pytree.TreeSpec) -> str:
        """What speaks against the code; nothing if it is right and faster.

        Args:
            leaves: The arguments of a call, tensors and others.
            form: How they make up arguments.

        Raises:
            Inconclusive: Only other arguments or other weights will tell.
            Exception: As torch raises it.
        """
        args, kwargs = pytree.tree_unflatten(leaves, form)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

        def plain() -> Any:
            return self.module._call_impl(*args, **kwargs)

        with one_at_a_time:
            kept = self.strokes.before(tensors)

            def step() -> Any:
                return self.strokes.step(tensors, kept)

            def whole() -> Any:
                return self.strokes.step(tensors, self.strokes.before(tensors))

            differs = _difference(step(), plain())
            weight = next(self.module.parameters())
            if not differs <= most_difference(weight.dtype):
                return f"it differs by {differs:.2g}"
            before = after = math.inf
            for _ in range(_ROUNDS):
                given = weight.device, self.recorder
                before = min(before, shortest_seconds(plain, *given))
                # Recorded, what steps share is computed once for all; else in every call.
                after = min(after, shortest_seconds(step, *given, whole))
                if pays := after <= before * (1 - _LEAST_GAIN):
                    break
        _log.info(
            "%s: %.4f s compiled, %.4f s before, difference %.2g",
            *(self.name, after, before, differs),
        )
        return "" if pays else f"it takes {after:.4f} s, plain code {before:.4f} s"


def most_difference(data_type: torch.dtype) -> float:
    """The greatest norm of a difference, over the norm of the result, that is rounding."""
    return max(1e-4, 16 * torch.finfo(data_type).eps)


def _difference(made: Any, wanted: Any) -> float:
    pairs = zip(pytree.tree_leaves(made), pytree.tree_leaves(wanted), strict=True)
    return max(_distance(ours.float(), theirs.float()) for ours, theirs in pairs)


def _distance(made: torch.Tensor, wanted: torch.Tensor) -> float:
    norm = float(wanted.norm())
    if not 0 < norm < math.inf:  # of a number that is not finite it is not either
        raise Inconclusive
    return float((made - wanted).norm()) / norm
