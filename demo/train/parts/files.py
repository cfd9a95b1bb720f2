"""What a script leaves behind: float16 weights and a few facts about the run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def save_half(
    weights: Mapping[str, Tensor] | torch.nn.Module,
    path: Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes weights as float16 safetensors in one step: the file is whole or absent.

    Whole numbers keep their type. Raises ValueError naming a tensor that float16 cannot hold.
    """
    tensors = weights.state_dict() if isinstance(weights, torch.nn.Module) else weights
    halves = {}
    for name, tensor in tensors.items():
        half = tensor.detach().cpu()
        if half.is_floating_point():
            half = half.half()
            if not half.isfinite().all():
                raise ValueError(f"{name}: holds values that float16 cannot")
        halves[name] = half.contiguous().clone()
    temporary = path.with_name(f"{path.name}.part")
    save_file(halves, temporary, metadata={"format": "pt", **(metadata or {})})
    os.replace(temporary, path)


def by_part(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Weights of several networks in one file, `part.name`, as one mapping for each part."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    return parts


def write_facts(path: Path, facts: Mapping[str, object]) -> None:
    """Writes a run's numbers as JSON in one step."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
