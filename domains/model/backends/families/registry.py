"""The families, in the order of the architectures: a member is a module of its value's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from itertools import chain
from typing import Any

from domains.model.backends.families.family import Family
from domains.model.types import Architecture, ModelType


def _family(architecture: Architecture) -> Family:
    family: Family = import_module(f"{__package__}.{architecture.value}").FAMILY
    return family


FAMILIES = tuple(map(_family, Architecture))
BY_ARCHITECTURE = {family.architecture: family for family in FAMILIES}

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


def of_unet(width: int, vector: int) -> Architecture | None:
    """The family of a UNet or ControlNet by the widths of its text embeddings and of its
    further input, 0 where it has none; None where they are unusual."""
    if not vector:
        return of_attention_width(width)
    exact = (f for f in FAMILIES if width in f.attention_widths and vector in f.vector_widths)
    loose = (f for f in FAMILIES if f.any_vector)
    return next((f.architecture for f in chain(exact, loose)), None)


def of_lora_layers(layers: Sequence[str]) -> Architecture | None:
    """The family of a LoRA whose layers have names of one alone."""
    for family in FAMILIES:
        if family.lora_layers and any(map(family.lora_layers.search, layers)):
            return family.architecture
    return None


def of_lora_text_width(width: int) -> Architecture | None:
    """The family of a LoRA that changes nothing but a text encoder of this width."""
    return next((f.architecture for f in FAMILIES if f.lora_text_width == width), None)


def of_embedding_width(width: int) -> Architecture | None:
    """The family that textual inversions of this width alone are made for."""
    return next((f.architecture for f in FAMILIES if f.embedding_width == width), None)
