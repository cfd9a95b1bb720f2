"""Networks as names and shapes of tensors, from the tables that `derive.py` made."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from functools import cache
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]

TABLES = Path(__file__).with_name("tables.json.xz")


@cache
def _tables() -> dict[str, dict[str, list[int]]]:
    loaded: dict[str, dict[str, list[int]]] = json.loads(lzma.decompress(TABLES.read_bytes()))
    return loaded


@cache
def _part(name: str) -> Shapes:
    return {key: tuple(shape) for key, shape in _tables()[name].items()}


def part(name: str, prefix: str = "") -> Shapes:
    """A network's tensors, their names after a prefix."""
    return {prefix + key: shape for key, shape in _part(name).items()}


def names() -> Iterable[str]:
    """Every network of the tables."""
    return _tables().keys()
