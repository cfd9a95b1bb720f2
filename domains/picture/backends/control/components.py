"""Which pixels hang together, for pictures of millions of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
# To the neighbours behind which none is found twice: rows and columns.
_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))


def joined(seeds: Mask, allowed: Mask) -> Mask:
    """The allowed pixels that a chain of allowed ones, side by side or by their corners, joins
    to a seed.

    Pixels are nodes of a graph whose roots are hooked onto smaller ones until none is left to
    hook; after each round a component has at most half as many roots (Y. Shiloach, U. Vishkin,
    "An O(log n) parallel connectivity algorithm", 1982). So a spiral of a million pixels takes
    twenty rounds, where growing from the seeds would take a million.

    Args:
        seeds: `[height, width]`; each is allowed.
        allowed: Of the same shape.
    """
    places = np.flatnonzero(allowed)
    if not len(places):
        return np.zeros_like(allowed)
    root = _roots(allowed, len(places))
    seeded = np.zeros(len(places), bool)
    seeded[root[seeds.ravel()[places]]] = True
    found = np.zeros(allowed.size, bool)
    found[places[seeded[root]]] = True
    return found.reshape(allowed.shape)


def _roots(allowed: Mask, count: int) -> npt.NDArray[np.int32]:
    """For each allowed pixel, in reading order, the number of its component's root."""
    parent = np.arange(count, dtype=np.int32)
    first, second = _pairs(allowed, count)
    while len(first):
        high, low = np.maximum(first, second), np.minimum(first, second)
        parent[high] = low
        while True:
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
        first, second = parent[first], parent[second]
        apart = first != second
        first, second = first[apart], second[apart]
    return parent


def _pairs(allowed: Mask, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Every two allowed pixels that touch, by their numbers in reading order."""
    number = np.full(allowed.shape, -1, np.int32)
    number[allowed] = np.arange(count, dtype=np.int32)
    height, width = allowed.shape
    firsts, seconds = [], []
    for down, right in _NEIGHBOURS:
        left = max(-right, 0)
        here = number[: height - down, left : width - max(right, 0)]
        there = number[down:, left + right : width + min(right, 0)]
        both = (here >= 0) & (there >= 0)
        firsts.append(here[both])
        seconds.append(there[both])
    return np.concatenate(firsts), np.concatenate(seconds)
