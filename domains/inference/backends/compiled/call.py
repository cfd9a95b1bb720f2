"""Calls of a network that compiled code answers as soon as it is there, right and faster."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from domains.device.backends import faults
from domains.inference.backends.compiled.order import CodeOrder, Subject
from domains.inference.backends.compiled.passing import is_passing
from domains.inference.backends.compiled.shelf import CodeShelf
from domains.inference.backends.compiled.trial import CodeTrial, Inconclusive
from domains.inference.backends.step_graphs import Recorder, Strokes
from domains.inference.backends.tree_forms import as_key

# Shapes of arguments that code is asked for.
_MOST_FORMS = 6


@dataclass(frozen=True)
class _Asked:
    """What code was asked for, with the arguments of the first call."""

    order: CodeOrder
    form: pytree.TreeSpec
    leaves: tuple[Any, ...]


class CodeCall:
    """What is called in a module's place (`nn.Module._compiled_call_impl`).

    It has code made for the arguments it sees, and runs the module itself until `adopt` has
    found that code right and faster.

    Args:
        subject: The module.
        shelf: Has its code.
    """

    def __init__(self, subject: Subject, shelf: CodeShelf) -> None:
        self._subject, self._shelf = subject, shelf
        self._module: Any = subject.module
        self._asked: dict[Hashable, _Asked | None] = {}
        self._adopted: dict[Hashable, Strokes] = {}
        self._noting: list[bool] | None = None

    @property
    def adopted(self) -> int:
        """For how many forms of arguments code runs; what was recorded before that number
        changed is out of date."""
        return len(self._adopted)

    def answers(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether code runs for a call with these arguments, here or as it was recorded."""
        return bool(self._adopted) and _key(*pytree.tree_flatten((args, kwargs))) in (
            self._adopted
        )

    @contextmanager
    def noted(self) -> Iterator[list[bool]]:
        """For each call inside, whether code ran; without those that are replayed."""
        before, self._noting = self._noting, []
        try:
            yield self._noting
        finally:
            self._noting = before

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives."""
        leaves, form = pytree.tree_flatten((args, kwargs))
        key = _key(leaves, form)
        strokes = self._adopted.get(key)
        if self._noting is not None:
            self._noting.append(strokes is not None)
        if strokes is not None:
            tensors = [
                leaf.to(self._device) for leaf in leaves if isinstance(leaf, torch.Tensor)
            ]
            return strokes.step(tensors, strokes.before(tensors))
        if key not in self._asked and len(self._asked) < _MOST_FORMS:
            self._asked[key] = self._ask(leaves, form)
        return self._module._call_impl(*args, **kwargs)

    def strokes(self, leaves: list[Any], form: pytree.TreeSpec) -> Strokes | None:
        """See `PartedCall`."""
        return self._adopted.get(_key(leaves, form))

    def adopt(self, recorder: Recorder | None) -> None:
        """Take the code that has come since into use, where it is right and faster.

        For between two pictures: it takes a second or two for each.

        Args:
            recorder: How calls will be recorded, None where they will not: they are compared
                so.
        """
        for key, asked in list(self._asked.items()):
            code = None if asked is None else self._shelf.code(asked.order)
            if asked is None or code is None:
                continue
            name = f"{asked.order.network} {asked.order.part or 'whole'}"
            try:
                strokes = code.of(self._module)
                trial = CodeTrial(name, self._module, strokes, recorder)
                why = trial.against(asked.leaves, asked.form)
            except Inconclusive:
                del self._asked[key]  # the next call is one to try it with
                continue
            except Exception as error:
                faults.drop_frames(error)
                if is_passing(error):
                    continue  # another time it may be possible to try it
                why = type(error).__name__
            self._asked[key] = None
            if why:
                self._shelf.refuse(asked.order, why)
            else:
                self._adopted[key] = strokes

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._module.parameters()).device
        return device

    def _ask(self, leaves: list[Any], form: pytree.TreeSpec) -> _Asked | None:
        # Where calls are recorded everything is on the device, a timestep as well.
        own = [
            leaf.to(self._device, copy=True) if isinstance(leaf, torch.Tensor) else leaf
            for leaf in leaves
        ]
        order = self._subject.order(own, form)
        if order is None:
            return None
        self._shelf.want(order)
        return _Asked(order, form, tuple(own))


def _key(leaves: list[Any], form: pytree.TreeSpec) -> Hashable:
    return as_key(form), tuple(
        (leaf.shape, leaf.stride(), leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf
        for leaf in leaves
    )
