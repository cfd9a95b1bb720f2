"""Code asks what a device can do and never which kind it is, except where kinds are told."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from domains.device.types import TRAITS, DeviceKind

ROOT = Path(__file__).parents[3]
# Where each kind is looked for and driven, and the tables that say what torch's devices can.
ALLOWED = (
    "domains/device/backends/",
    "domains/inference/backends/device.py",
    "domains/memory/backends/streams.py",
)
_TORCH_KINDS = {"cpu", "cuda", "hip", "xpu", "mps", "privateuseone", "dml", "directml"}


def comparisons(source: str) -> Iterator[int]:
    """Lines on which a value is compared or matched with a kind of device."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare():
                asked = any(map(_names_kind, ast.walk(node)))
            case ast.MatchValue():
                asked = _names_kind(node.value)
            case ast.Call(func=ast.Attribute(attr="startswith")):
                asked = any(map(_names_kind, node.args))
            case _:
                asked = False
        if asked:
            yield getattr(node, "lineno", 0)


def _names_kind(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "DeviceKind"
    return isinstance(node, ast.Constant) and node.value in _TORCH_KINDS


@pytest.mark.parametrize(
    "source",
    [
        "if device.kind is DeviceKind.CPU: pass",
        "x = kind in (DeviceKind.CUDA, DeviceKind.ROCM)",
        "if device.type == 'cuda': pass",
        "y = 'mps' != device.type",
        "name.startswith('cuda')",
        "match kind:\n    case DeviceKind.MPS: pass",
    ],
)
def test_the_rule_sees_each_way_of_asking(source: str) -> None:
    assert list(comparisons(source))


@pytest.mark.parametrize(
    "source",
    [
        "x = {DeviceKind.CPU: 900}",
        "if device.kind is wanted: pass",
        "if device.traits.can_vanish: pass",
        "words = ('cuda', 'mps')",
    ],
)
def test_the_rule_lets_tables_and_traits_be(source: str) -> None:
    assert not list(comparisons(source))


def test_nobody_else_asks_for_a_kind() -> None:
    found = [
        f"{name}:{line}"
        for folder in ("domains", "server")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not (name := path.relative_to(ROOT).as_posix()).startswith(ALLOWED)
        for line in comparisons(path.read_text("utf-8"))
    ]

    assert found == []


def test_every_kind_has_traits() -> None:
    assert set(TRAITS) == set(DeviceKind)
    assert [kind for kind, traits in TRAITS.items() if traits.in_main_memory] == [
        DeviceKind.CPU
    ]
