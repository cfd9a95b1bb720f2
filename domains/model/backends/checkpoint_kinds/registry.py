"""Every kind of single-file checkpoint, in the order of the families."""

from __future__ import annotations

from importlib import import_module

from domains.model.backends.checkpoint_kinds.kind import CheckpointKind
from domains.model.backends.families.registry import FAMILIES


def _kinds_of(architecture: str) -> tuple[CheckpointKind, ...]:
    kinds: tuple[CheckpointKind, ...] = import_module(f"{__package__}.{architecture}").KINDS
    return kinds


KINDS = tuple(
    kind for family in FAMILIES if family.drawn for kind in _kinds_of(family.architecture.value)
)
"""Of two whose networks a file could hold, the first is meant."""
