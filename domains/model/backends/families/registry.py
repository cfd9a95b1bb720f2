"""The families, in the order of the architectures: a member is a module of its value's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from domains.model.backends.families.family import Family
from domains.model.types import Architecture, ModelType


def _family(architecture: Architecture) -> Family:
    family: Family = import_module(f"{__package__}.{architecture.value}").FAMILY
    return family


FAMILIES = tuple(map(_family, Architecture))

PIPELINES = frozenset(name for family in FAMILIES for name in family.pipelines)
"""Classes that an index of a model names that can be drawn with."""


def family_of(index: Mapping[str, Any], unet: Mapping[str, Any]) -> Family | None:
    """The family of a folder; None where its index names no class of `PIPELINES`.

    Args:
        index: The folder's.
        unet: The configuration of its UNet, which tells families with the same classes apart.
    """
    name = index.get("_class_name")
    named = [family for family in FAMILIES if name in family.pipelines]
    known = (family for family in named if family.recognise_folder(index, unet))
    return next(known, named[0] if named else None)


def marked(type: ModelType, names: Iterable[str]) -> Architecture | None:
    """The family of a file of a type, where a tensor's name shows it."""
    for family in FAMILIES:
        mark = family.marks.get(type)
        if mark is not None and any(map(mark.search, names)):
            return family.architecture
    return None


def of_attention_width(width: int) -> Architecture | None:
    """The family whose UNets attend to text embeddings of this width."""
    return next((f.architecture for f in FAMILIES if width in f.attention_widths), None)


def of_embedding_width(width: int) -> Architecture | None:
    """The family that textual inversions of this width alone are made for."""
    return next((f.architecture for f in FAMILIES if f.embedding_width == width), None)
