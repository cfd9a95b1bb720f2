"""How the compiler is to sum up rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Numbers of a row that one program holds at once; the compiler's own bound is 1024, and rows of
# a transformer's numbers are somewhat longer. What is longer than its bound is read twice.
_ROW = 4096


@contextmanager
def rows_at_once() -> Iterator[None]:
    """Inside, rows of that length are read once where they are normalised."""
    from torch._inductor.choices import InductorChoices
    from torch._inductor.runtime.hints import ReductionHint
    from torch._inductor.virtualized import V

    class Choices(InductorChoices):
        @staticmethod
        def should_use_persistent_reduction(features: Any, cooperative_reduction: bool) -> bool:
            inner = features.get_reduction_hint() == ReductionHint.INNER
            if inner and not cooperative_reduction:
                fits = V.graph.sizevars.statically_known_leq(features.reduction_numel, _ROW)
                return bool(fits)
            usual: bool = InductorChoices.should_use_persistent_reduction(
                features, cooperative_reduction
            )
            return usual

    with V.set_choices_handler(Choices()):
        yield
