"""Changes of weights written down in other ways than a plain LoRA, as whole matrices.

Formulas: LoHa and LoKr by KohakuBlueleaf/LyCORIS (`lycoris/functional`), DoRA by
arXiv:2402.09353; the factor 1 / norm is taken of the whole changed weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from domains.model.backends.lora.endings import Algorithm

Parts = Mapping[str, torch.Tensor]


def scaling_of(algorithm: Algorithm, parts: Parts) -> float:
    """alpha over rank, 1 where the file has no alpha or the change no rank."""
    rank = _rank(algorithm, parts)
    factor = float(parts["scalar"].item()) if "scalar" in parts else 1.0
    if rank == 0 or "alpha" not in parts:
        return factor
    return factor * float(parts["alpha"].item()) / rank


def whole_change(
    algorithm: Algorithm, parts: Parts, weight: torch.Tensor
) -> torch.Tensor | None:
    """What is added to `weight` at strength 1, float32 in its shape; None where only the bias
    changes. With a magnitude (DoRA) it is magnitude * (W + change) / norm - W."""
    parts = {name: tensor.to(torch.float32) for name, tensor in parts.items()}
    base = weight.to(torch.float32)
    if "set" in parts:
        return parts["set"].reshape(weight.shape) - base
    if algorithm is Algorithm.FULL and "diff" not in parts:
        return None
    change: torch.Tensor = _change(algorithm, parts).reshape(weight.shape) * scaling_of(
        algorithm, parts
    )
    if "magnitude" not in parts:
        return change
    changed = base + change
    magnitude = parts["magnitude"]
    outputs = changed.shape[0]
    by_input = magnitude.dim() > 1 and magnitude.shape[0] == 1 and magnitude.numel() != outputs
    # One norm for each output; LyCORIS may also take one for each input.
    axis = 1 if by_input else 0
    others = [one for one in range(changed.dim()) if one != axis]
    shape = [1] * changed.dim()
    shape[axis] = changed.shape[axis]
    norm: torch.Tensor = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    change = magnitude.reshape(shape) * changed / norm - base
    return change


def _change(algorithm: Algorithm, parts: Parts) -> torch.Tensor:
    match algorithm:
        case Algorithm.LOHA:
            return _hada(parts, "1") * _hada(parts, "2")
        case Algorithm.LOKR:
            first, second = _factor(parts, "1"), _factor(parts, "2")
            shape = (*first.shape, *(1,) * (second.dim() - first.dim()))
            return torch.kron(first.reshape(shape), second)
        case Algorithm.FULL:
            return parts["diff"]
    up, down = parts["up"].flatten(1), parts["down"].flatten(1)
    if "mid" in parts:
        return torch.einsum("or,rshw,si->oihw", up, parts["mid"], down)
    return up @ down


def _hada(parts: Parts, number: str) -> torch.Tensor:
    a, b = parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]
    core = parts.get(f"hada_t{number}")
    return a @ b if core is None else torch.einsum("ijhw,jr,ip->prhw", core, b, a)


def _factor(parts: Parts, number: str) -> torch.Tensor:
    whole = parts.get(f"lokr_w{number}")
    if whole is not None:
        return whole
    a, b = parts[f"lokr_w{number}_a"], parts[f"lokr_w{number}_b"]
    core = parts.get(f"lokr_t{number}")
    if core is not None:
        return torch.einsum("ijhw,jr,ip->prhw", core, b, a)
    # The second factor of a convolution keeps its kernel in the last dimensions.
    return (a @ b.flatten(1)).reshape(a.shape[0], *b.shape[1:])


def _rank(algorithm: Algorithm, parts: Parts) -> int:
    names = {
        Algorithm.LORA: ("down",),
        Algorithm.LOHA: ("hada_w1_b",),
        Algorithm.LOKR: ("lokr_w2_b", "lokr_w1_b"),
    }.get(algorithm, ())
    return next((parts[name].shape[0] for name in names if name in parts), 0)
