"""A LoRA file taken apart: a change for each layer, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from domains.errors import Reason
from domains.model.backends.lora.endings import Algorithm, piece
from domains.model.backends.lora.layers import Layer, layer
from domains.model.backends.lora.targets import Target, lacking, mismatched
from domains.model.backends.safetensors_header import Header, TensorEntry


class Finding(NamedTuple):
    """Something wrong with a file: why, the tensor or the layer that it is about, in words."""

    reason: Reason
    tensor: str
    description: str


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA changes.

    Attributes:
        targets: A change for each layer, in the file's order.
        findings: What is wrong with the file by itself; none where it is whole.
    """

    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]


def parse_lora(header: Header) -> LoraFile:
    """Take a LoRA apart by its header. Never raises for what is in it.

    Names are those of kohya's trainers (of the original's blocks or diffusers'), diffusers,
    peft, diffusers' older attention processors and LyCORIS.
    """
    layers: dict[str, dict[str, TensorEntry]] = {}
    algorithms: dict[str, set[Algorithm]] = {}
    leftover: dict[str, TensorEntry] = {}
    findings: list[Finding] = []
    for tensor in header.tensors:
        found = piece(tensor.name)
        if found is None:
            leftover[tensor.name] = tensor
            continue
        parts = layers.setdefault(found.layer, {})
        if found.part in parts:
            findings.append(_twice(tensor.name))
        parts[found.part] = tensor
        if found.algorithm is not None:
            algorithms.setdefault(found.layer, set()).add(found.algorithm)
    _take_factors(layers, algorithms, leftover)
    findings += [_unexpected(name) for name in leftover if not _is_embedding(name)]
    targets: dict[Layer, Target] = {}
    for name, parts in layers.items():
        target, wrong = _target(name, parts, algorithms.get(name, set()))
        findings += wrong
        if target is None:
            continue
        if target.layer in targets:
            findings.append(_twice(name))
        targets[target.layer] = target
    return LoraFile(tuple(targets.values()), tuple(findings))


def check_lora(header: Header) -> tuple[Finding, ...]:
    """What is wrong with a LoRA by itself: MODEL_INCOMPLETE for a change that lacks a part,
    MODEL_SHAPE_INVALID for parts that do not go together, MODEL_INCOMPATIBLE for tensors of no
    layer that a UNet or text encoder has."""
    return parse_lora(header).findings


_APPLIED = frozenset({Algorithm.LORA, Algorithm.LOHA, Algorithm.LOKR, Algorithm.FULL})


def check_applied(lora: LoraFile) -> tuple[Finding, ...]:
    """Changes of kinds that are recognised and not applied, all MODEL_INCOMPATIBLE."""
    return tuple(
        Finding(
            Reason.MODEL_INCOMPATIBLE,
            f"{target.layer.network}.{target.layer.name}",
            f"Changes of the kind {target.algorithm.value} are not applied.",
        )
        for target in lora.targets
        if target.algorithm not in _APPLIED
    )


Sizes = Mapping[Layer, tuple[int, ...]]
"""Shapes of the weights of a model's layers."""


def check_fit(lora: LoraFile, model: Sizes) -> tuple[Finding, ...]:
    """What keeps a LoRA from a model, all MODEL_INCOMPATIBLE: layers that the model does not
    have, and layers of another size, as those of another architecture."""
    return tuple(_misfits(lora.targets, model))


def _misfits(targets: Iterable[Target], model: Sizes) -> Iterable[Finding]:
    for target in targets:
        shape = model.get(target.layer)
        name = f"{target.layer.network}.{target.layer.name}"
        if shape is None:
            what = f"changes {name}, which the model does not have"
            yield Finding(Reason.MODEL_INCOMPATIBLE, name, f"The LoRA {what}.")
            continue
        outputs, inputs = target.size
        wanted = math.prod(shape[1:])
        if (outputs and shape[:1] != (outputs,)) or (inputs and inputs != wanted):
            what = f"is for {outputs} x {inputs} weights of {name}"
            has = f"the model has {shape[0]} x {wanted}"
            yield Finding(Reason.MODEL_INCOMPATIBLE, name, f"The LoRA {what}; {has}.")


def _take_factors(
    layers: dict[str, dict[str, TensorEntry]],
    algorithms: Mapping[str, set[Algorithm]],
    leftover: dict[str, TensorEntry],
) -> None:
    """IA3 calls its factor `weight`, as if it were the layer's own."""
    for name, found in algorithms.items():
        factor = leftover.pop(f"{name}.weight", None) if Algorithm.IA3 in found else None
        if factor is not None:
            layers[name]["weight"] = factor


def _target(
    name: str, parts: dict[str, TensorEntry], algorithms: set[Algorithm]
) -> tuple[Target | None, list[Finding]]:
    place = layer(name)
    if place is None:
        return None, [_unexpected(name)]
    # A change of the bias may stand beside any other.
    others = algorithms - {Algorithm.FULL} or algorithms
    if len(others) != 1:
        missing = "no change of its weights" if not others else "more than one kind of change"
        description = f"Layer {name!r} has {missing}."
        return None, [Finding(Reason.MODEL_INCOMPLETE, name, description)]
    (algorithm,) = others
    if algorithm is Algorithm.OFT and "blocks" in parts and len(parts["blocks"].shape) == 4:
        algorithm = Algorithm.BOFT  # one dimension more: factors that are multiplied
    absent = lacking(algorithm, frozenset(parts))
    if absent:
        return None, [
            Finding(
                Reason.MODEL_INCOMPLETE,
                name,
                f"Layer {name!r} ({algorithm.value}) lacks {', '.join(absent)}.",
            )
        ]
    wrong = mismatched(algorithm, {part: entry.shape for part, entry in parts.items()})
    if wrong:
        first, second = wrong
        return None, [
            Finding(
                Reason.MODEL_SHAPE_INVALID,
                parts[first].name,
                f"Layer {name!r}: {first} and {second} are of different ranks.",
            )
        ]
    return Target(place, algorithm, parts), []


def _twice(name: str) -> Finding:
    return Finding(
        Reason.MODEL_INCOMPATIBLE, name, f"{name!r} changes a layer that is changed already."
    )


def _unexpected(name: str) -> Finding:
    return Finding(
        Reason.MODEL_INCOMPATIBLE,
        name,
        f"{name!r} is of no layer that a UNet or text encoder has.",
    )


def _is_embedding(name: str) -> bool:
    """Words that come with a LoRA (AUTOMATIC1111's bundles) are no layer's."""
    return name.startswith("bundle_emb.")
