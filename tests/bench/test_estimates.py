"""The factors that estimates of memory stand on are those that networks of full shape count."""

from __future__ import annotations

import pytest

from bench.memory_factors import STATED, counted


def test_factors_are_what_is_alive_at_once() -> None:
    found = counted()

    assert found.keys() == STATED.keys()
    for name, factor in found.items():
        if "second" in name:  # takes less than the UNet with what both give
            assert factor < STATED[name], name
        else:
            assert factor == pytest.approx(STATED[name], rel=0.03), name
