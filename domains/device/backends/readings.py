"""Single figures from libraries that refuse each in a way of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

# What AMD's and NVIDIA's libraries give for "not supported" in fields without a sign.
_NO_READING = frozenset({0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})


def number(ask: Callable[[], object]) -> float | None:
    """What `ask` returns, if that is a figure; None when it refuses or has words for it."""
    try:
        reading = ask()
    except Exception:  # Each library has its own errors, and a figure less is no failure.
        return None
    if (
        isinstance(reading, bool)
        or not isinstance(reading, int | float)
        or reading in _NO_READING
    ):
        return None
    return float(reading) if math.isfinite(reading) else None
