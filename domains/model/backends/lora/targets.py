"""The change of one layer: which tensors it is made of, and what shape of weights it is for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from domains.model.backends.lora.endings import Algorithm
from domains.model.backends.lora.layers import Layer
from domains.model.backends.safetensors_header import TensorEntry

Parts = Mapping[str, TensorEntry]


@dataclass(frozen=True)
class Target:
    """A layer and its change.

    Attributes:
        layer: The layer, in diffusers' names.
        algorithm: How the change is written down.
        parts: Its tensors by what they are in it: `down` and `up` of a LoRA, `mid` between
            them, the names of LyCORIS for its own, `alpha`, `magnitude` for DoRA's.
    """

    layer: Layer
    algorithm: Algorithm
    parts: Parts

    @property
    def rank(self) -> int:
        """Its rank; 0 where its algorithm has none."""
        for part, axis in RANK_AXES.items():
            if part in self.parts and len(self.parts[part].shape) >= 2:
                return self.parts[part].shape[axis]
        return 0

    @property
    def size(self) -> tuple[int, int]:
        """Outputs of the layer and inputs of each, kernel included, that the change is for; a
        number is 0 where the tensors do not tell it."""
        return _size(self.algorithm, {part: entry.shape for part, entry in self.parts.items()})


RANK_AXES = {"down": 0, "hada_w1_b": 0, "lokr_w2_b": 0, "lokr_w1_b": 0, "a1": 0}
"""The parts whose shapes have the rank, and where in them."""


def lacking(algorithm: Algorithm, parts: frozenset[str]) -> tuple[str, ...]:
    """Parts that a change is not whole without, given those it has."""
    for ways in _WAYS[algorithm]:
        # Of several ways to write a factor, the one of which something is there is meant.
        meant = next((way for way in ways if way & parts), ways[0])
        if meant - parts:
            return tuple(sorted(meant - parts))
    return ()


_Way = frozenset[str]
_WAYS: dict[Algorithm, tuple[tuple[_Way, ...], ...]] = {
    Algorithm.LORA: ((frozenset({"down", "up"}),),),
    Algorithm.LOHA: ((frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),),),
    Algorithm.LOKR: (
        (frozenset({"lokr_w1"}), frozenset({"lokr_w1_a", "lokr_w1_b"})),
        (frozenset({"lokr_w2"}), frozenset({"lokr_w2_a", "lokr_w2_b"})),
    ),
    Algorithm.GLORA: ((frozenset({"a1", "a2", "b1", "b2"}),),),
    Algorithm.IA3: ((frozenset({"on_input", "weight"}),),),
    Algorithm.OFT: ((frozenset({"blocks"}),),),
    Algorithm.BOFT: ((frozenset({"blocks"}),),),
    Algorithm.FULL: ((frozenset({"diff"}), frozenset({"set"}), frozenset({"diff_b"})),),
    Algorithm.NORM: ((frozenset({"weight"}), frozenset({"bias"})),),
}


def mismatched(algorithm: Algorithm, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Two parts whose shapes do not go together, where there are such."""
    for first, axis, second, other in _MEETING.get(algorithm, ()):
        if first in shapes and second in shapes and not _tucker(algorithm, shapes):
            one, two = shapes[first], shapes[second]
            if len(one) < 2 or len(two) < 2 or one[axis] != two[other]:
                return first, second
    return ()


# Axes that must be of one size, as they are multiplied along them.
_MEETING = {
    Algorithm.LORA: (("up", 1, "down", 0),),
    Algorithm.LOHA: (("hada_w1_a", 1, "hada_w1_b", 0), ("hada_w2_a", 1, "hada_w2_b", 0)),
    Algorithm.LOKR: (("lokr_w1_a", 1, "lokr_w1_b", 0), ("lokr_w2_a", 1, "lokr_w2_b", 0)),
}


def _tucker(algorithm: Algorithm, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a core stands between the factors, which are then laid out otherwise."""
    cores = {Algorithm.LOHA: "hada_t1", Algorithm.LOKR: "lokr_t2"}
    return cores.get(algorithm, "") in shapes


def _size(algorithm: Algorithm, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    match algorithm:
        case Algorithm.LORA:
            up, down = shapes.get("up", ()), shapes.get("down", ())
            taps = math.prod(shapes["mid"][2:] if "mid" in shapes else down[2:])
            return _first(up), _second(down) * taps
        case Algorithm.LOHA:
            a, b = shapes.get("hada_w1_a", ()), shapes.get("hada_w1_b", ())
            if "hada_t1" in shapes:
                kernel = math.prod(shapes["hada_t1"][2:])
                return _second(a), _second(b) * kernel
            return _first(a), _second(b)
        case Algorithm.LOKR:
            return _kronecker(shapes)
        case Algorithm.FULL:
            whole = shapes.get("diff") or shapes.get("set") or ()
            return _first(whole), math.prod(whole[1:]) if whole else 0
        case Algorithm.GLORA:
            return _first(shapes.get("b2", ())), _second(shapes.get("b1", ()))
        case Algorithm.NORM:
            return _first(shapes.get("weight") or shapes.get("bias") or ()), 1
    return 0, 0


def _kronecker(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Outputs and inputs are the products of those of both factors."""
    outs, ins = 1, 1
    for factor in ("lokr_w1", "lokr_w2"):
        whole = shapes.get(factor)
        if whole is not None:
            outs, ins = outs * _first(whole), ins * math.prod(whole[1:])
        elif factor == "lokr_w2" and "lokr_t2" in shapes:
            outs *= _second(shapes.get("lokr_w2_a", ()))
            ins *= _second(shapes.get("lokr_w2_b", ())) * math.prod(shapes["lokr_t2"][2:])
        else:
            outs *= _first(shapes.get(f"{factor}_a", ()))
            ins *= math.prod(shapes.get(f"{factor}_b", (0, 0))[1:])
    return outs, ins


def _first(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 0


def _second(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) >= 2 else 0
