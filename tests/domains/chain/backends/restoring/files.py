"""Narrow GFPGANs with weights of their own, as files and ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from domains.chain.backends.restoring.loading import load_restorer
from domains.chain.backends.restoring.restorer import Restorer
from domains.values import ModelPlace
from tests.domains.model.corpus.gfpgan import narrow

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


def random_restorer(shapes: Mapping[str, tuple[int, ...]] | None = None) -> Tensors:
    """Numbers that are the same everywhere: numpy's."""
    random = np.random.default_rng(3)
    return {
        name: torch.from_numpy(
            random.standard_normal(shape).astype(np.float32) * np.float32(0.2)
        )
        for name, shape in sorted((shapes or narrow()).items())
    }


def painting(red: float, green: float, blue: float) -> Tensors:
    """One that paints every face in one colour, 0 to 1: all is 0 but the last bias."""
    tensors = {name: torch.zeros(shape) for name, shape in narrow().items()}
    last = tensors["stylegan_decoder.to_rgbs.6.bias"]
    last.copy_(torch.tensor((red, green, blue)).view(1, 3, 1, 1) * 2 - 1)
    return tensors


def saved(tensors: Tensors, folder: Path, name: str = "faces", prefix: str = "") -> Path:
    """As a file; `prefix` stands before each name."""
    path = folder / f"{name}.safetensors"
    save_file({prefix + each: tensor for each, tensor in tensors.items()}, path)
    return path


def loaded(tensors: Tensors, folder: Path, prefix: str = "") -> Restorer:
    """From a file, on the processor."""
    return load_restorer(ModelPlace.of(saved(tensors, folder, prefix=prefix)), CPU)
