"""The noise a picture starts from."""

from __future__ import annotations

import torch


def seeded_generator(seed: int) -> torch.Generator:
    """A generator on the CPU, so that a seed means the same on every device.

    Args:
        seed: 0 to 2**64 - 1.
    """
    return torch.Generator("cpu").manual_seed(seed)


def initial_noise(
    *, channels: int, height: int, width: int, scale: int, generator: torch.Generator
) -> torch.Tensor:
    """Standard normal latents for one picture.

    Args:
        channels: Latent channels of the model.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        scale: Pixels per latent along each edge.
        generator: Its next numbers are used.

    Returns:
        float32 `[1, channels, height // scale, width // scale]` on the CPU. Drawn in
        float32 whatever the networks compute in, as other types draw other numbers.
    """
    shape = (1, channels, height // scale, width // scale)
    return torch.randn(shape, generator=generator, dtype=torch.float32)
