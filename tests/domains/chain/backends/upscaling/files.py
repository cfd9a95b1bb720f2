"""Upscalers with random weights, as files and ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.model.backends.upscalers import compact, rrdb
from domains.values import ModelPlace

MODELS = Path(__file__).resolve().parents[5] / "demo" / "models"
CPU = torch.device("cpu")


def random_weights(
    shapes: Mapping[str, tuple[int, ...]], seed: int = 1
) -> dict[str, torch.Tensor]:
    """Small numbers, so that pictures stay pictures."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()
    }


def small_compact(factor: int = 2, channels: int = 3) -> dict[str, torch.Tensor]:
    """A Compact network that takes no time."""
    return random_weights(compact.shapes(channels, 4, 1, factor, 4))


def small_rrdb(taken: int = 3, enlargements: int = 1) -> dict[str, torch.Tensor]:
    """An RRDB network that takes no time."""
    return random_weights(rrdb.shapes(taken, 3, 4, 2, 1, enlargements))


def loaded(tensors: Mapping[str, torch.Tensor], folder: Path) -> Upscaler:
    """From a file, on the processor."""
    path = folder / "upscaler.safetensors"
    save_file(dict(tensors), path)
    return load_upscaler(ModelPlace.of(path), CPU)


def demo(factor: int) -> Upscaler:
    """One of the demo family."""
    return load_upscaler(ModelPlace.of(MODELS / f"compact-{factor}x.safetensors"), CPU)
