"""Compiled code as it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from domains.codec import decode_json
from domains.inference.backends.compiled import group_norm  # noqa: F401 - code calls it
from domains.inference.backends.compiled.making import BEFORE, CODE, FACTS, CodeFacts

Artifact = Callable[..., Sequence[Any]]


@dataclass(frozen=True)
class ModuleCode:
    """Code with a module's weights, for the tensors among the module's arguments."""

    code: Code
    weights: tuple[torch.Tensor | None, ...]

    @property
    def steady(self) -> tuple[bool, ...]:
        """See `Strokes`."""
        return self.code.facts.steady

    def before(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See `Strokes`."""
        if self.code.before is None:
            return []
        return list(self.code.before(*self._taken(self.code.facts.before, tensors)))

    def step(self, tensors: Sequence[torch.Tensor], kept: list[torch.Tensor]) -> Any:
        """See `Strokes`."""
        made = self.code.step(*self._taken(self.code.facts.step, tensors), *kept)
        return pytree.tree_unflatten(list(made), self.code.result)

    def _taken(
        self, places: tuple[int, ...], tensors: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        given = iter(tensors)
        whole = [next(given) if each is None else each.detach() for each in self.weights]
        return [whole[place] for place in places]


class Code:
    """Code of one order, loaded. It runs with whatever weights a module has when it is called.

    Args:
        before: Gives what all steps share, of weights and inputs; None where that is nothing.
        step: Gives the outputs, as a sequence, of weights, inputs and what all steps share.
        facts: What belongs to it.
    """

    def __init__(self, before: Artifact | None, step: Artifact, facts: CodeFacts) -> None:
        self.before, self.step, self.facts = before, step, facts
        self.result = pytree.treespec_loads(facts.result)

    @classmethod
    def load(cls, folder: Path) -> Code:
        """What `making` has left there.

        Raises:
            OSError: It cannot be read, or not be unpacked to where it runs.
            Exception: As Python and torch raise it; it is not there, or not whole.
        """
        from torch._inductor.standalone_compile import CompiledArtifact

        facts = decode_json(CodeFacts, (folder / FACTS).read_bytes())
        names = [CODE, BEFORE] if facts.before else [CODE]
        if not all((folder / name).exists() for name in names):
            raise ValueError("the code is incomplete")
        found: list[Any] = [
            CompiledArtifact.load(path=str(folder / name), format="binary") for name in names
        ]
        return cls(found[1] if facts.before else None, found[0], facts)

    def of(self, module: nn.Module) -> ModuleCode:
        """The code with a module's weights.

        Raises:
            KeyError: The module lacks one of them.
        """
        own: dict[str, Any] = {
            **dict(module.named_parameters()),
            **dict(module.named_buffers()),
        }
        weights = tuple(None if name is None else own[name] for name in self.facts.names)
        return ModuleCode(self, weights)
