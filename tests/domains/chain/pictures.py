"""Pictures for chains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domains.chain.backends.canvas import Canvas


def noise(width: int, height: int, *, alpha: bool = False, seed: int = 0) -> Canvas:
    """Random levels."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    levels = random.integers(0, 256, (height, width), dtype=np.uint8)
    return Canvas(pixels, levels if alpha else None)


def same(one: Canvas, other: Canvas) -> bool:
    """Whether two are equal, byte by byte."""
    if (one.alpha is None) is not (other.alpha is None):
        return False
    return np.array_equal(one.whole(), other.whole())


def ignored(done: int, pieces: int) -> None:
    """A step's progress, of no interest."""


def counted() -> tuple[list[tuple[int, int]], Callable[[int, int], None]]:
    """A list, and what puts a step's progress into it."""
    told: list[tuple[int, int]] = []
    return told, lambda done, pieces: told.append((done, pieces))
