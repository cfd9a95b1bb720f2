"""Compiled code as it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from domains.codec import decode_json
from domains.inference.backends.compiled.making import CODE, FACTS, CodeFacts


class Code:
    """Code of one order, loaded. It runs with whatever weights a module has when it is called.

    Args:
        artifact: Gives the outputs, as a sequence, of weights and inputs.
        facts: What belongs to it.
    """

    def __init__(self, artifact: Callable[..., Sequence[Any]], facts: CodeFacts) -> None:
        self._artifact, self._facts = artifact, facts
        self._result = pytree.treespec_loads(facts.result)

    @classmethod
    def load(cls, folder: Path) -> Code:
        """What `making` has left there.

        Raises:
            Exception: As Python and torch raise it; it is not there, or not whole.
        """
        from torch._inductor.standalone_compile import CompiledArtifact

        facts = decode_json(CodeFacts, (folder / FACTS).read_bytes())
        artifact: Any = CompiledArtifact.load(path=str(folder / CODE), format="binary")
        return cls(artifact, facts)

    def of(self, module: nn.Module) -> Callable[[Sequence[torch.Tensor]], Any]:
        """The code with a module's weights: from the tensors among its arguments to what the
        module gives.

        Raises:
            KeyError: The module lacks one of them.
        """
        own: dict[str, Any] = {
            **dict(module.named_parameters()),
            **dict(module.named_buffers()),
        }
        weights = [None if name is None else own[name] for name in self._facts.names]

        def call(tensors: Sequence[torch.Tensor]) -> Any:
            given = iter(tensors)
            arguments = (next(given) if each is None else each.detach() for each in weights)
            return pytree.tree_unflatten(list(self._artifact(*arguments)), self._result)

        return call
