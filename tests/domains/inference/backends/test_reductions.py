"""Rows that a compiler reads once where they are normalised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from domains.inference.backends.compiled.reductions import rows_at_once
from domains.inference.backends.compiled.shelf import can_compile

pytestmark = pytest.mark.skipif(not can_compile(), reason="this torch does not compile so")


def at_once(numbers: int, hint: str, *, cooperative: bool = False) -> bool:
    from torch._inductor.runtime.hints import ReductionHint
    from torch._inductor.virtualized import V

    features = SimpleNamespace(
        get_reduction_hint=lambda: ReductionHint[hint],
        reduction_numel=numbers,
        numel=2048,
    )
    known: Any = SimpleNamespace(
        statically_known_leq=lambda one, other: one <= other,
        optimization_hint=lambda value: value,
    )
    with V.set_graph_handler(SimpleNamespace(sizevars=known)):
        given: bool = V.choices.should_use_persistent_reduction(features, cooperative)
        return given


def test_rows_of_a_transformer_are_read_once() -> None:
    assert not at_once(1280, "INNER"), "the compiler's own bound"
    with rows_at_once():
        assert at_once(1280, "INNER")
        assert at_once(4096, "INNER")
        assert not at_once(4097, "INNER")
    assert not at_once(1280, "INNER"), "inside alone"


def test_everything_else_is_the_compilers_choice() -> None:
    cases: list[tuple[int, str, bool]] = [
        (1024, "INNER", True),
        (4096, "INNER", True),
        (64, "OUTER_TINY", False),
        (1280, "OUTER_TINY", False),
    ]
    usual = [at_once(count, hint, cooperative=together) for count, hint, together in cases]
    with rows_at_once():
        assert usual == [
            at_once(count, hint, cooperative=together) for count, hint, together in cases
        ]
