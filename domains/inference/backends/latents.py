"""The noise a picture starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from domains.inference.types import SeedVariation

# Of the sine of an angle: closer directions are mixed in a straight line.
_SAME_DIRECTION = 1e-6


def seeded_generator(seed: int) -> torch.Generator:
    """A generator on the CPU, so that a seed means the same on every device.

    Args:
        seed: 0 to 2**64 - 1.
    """
    return torch.Generator("cpu").manual_seed(seed)


@dataclass(frozen=True)
class Noise:
    """Standard normal numbers from `generator`, on the way to those from `other` by
    `strength`: 0 is the one, 1 the other."""

    generator: torch.Generator
    other: torch.Generator | None = None
    strength: float = 0.0

    def draw(self, shape: Sequence[int]) -> torch.Tensor:
        """The next numbers of both.

        Args:
            shape: `[1, channels, height, width]`.

        Returns:
            float32, on the CPU. Drawn in float32 whatever the networks compute in, as other
            types draw other numbers.
        """
        own = _drawn(self.generator, shape)
        if self.other is None:
            return own
        return between(own, _drawn(self.other, shape), self.strength)

    def states(self) -> tuple[torch.Tensor, ...]:
        """Where both are in their numbers."""
        return tuple(each.get_state() for each in self._generators)

    def go_back(self, states: tuple[torch.Tensor, ...]) -> None:
        """Have both give the numbers again that followed there."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    @property
    def _generators(self) -> tuple[torch.Generator, ...]:
        return (self.generator,) if self.other is None else (self.generator, self.other)


def noise_of(seed: int, variation: SeedVariation | None) -> Noise:
    """The noise of a picture with that seed."""
    if variation is None or not variation.strength:
        return Noise(seeded_generator(seed))
    other = seeded_generator(variation.seed)
    return Noise(seeded_generator(seed), other, variation.strength)


def between(own: torch.Tensor, other: torch.Tensor, strength: float) -> torch.Tensor:
    """Spherical interpolation, which keeps the spread of the noise.

    As variation seeds of stable-diffusion-webui (`modules/rng.py`, `slerp`) it turns each
    column of each channel by a share of the angle between both; differently from there in
    float64, so that processors agree to the last bit, and per column where they are parallel.

    Args:
        own: float32 `[1, channels, height, width]`.
        other: Of the same shape.
        strength: 0 gives `own`, 1 gives `other`, bit for bit.
    """
    if strength <= 0.0:
        return own
    if strength >= 1.0:
        return other
    start, end = own.double(), other.double()
    lengths = start.norm(dim=2, keepdim=True) * end.norm(dim=2, keepdim=True)
    cosine = (start * end).sum(dim=2, keepdim=True) / lengths.clamp(min=torch.finfo().tiny)
    angle = cosine.clamp(-1.0, 1.0).acos()
    sine = angle.sin()
    turned = (
        ((1.0 - strength) * angle).sin() * start + (strength * angle).sin() * end
    ) / sine.clamp(min=_SAME_DIRECTION)
    straight = (1.0 - strength) * start + strength * end
    return torch.where(sine > _SAME_DIRECTION, turned, straight).to(torch.float32)


def initial_noise(
    *, channels: int, height: int, width: int, scale: int, noise: Noise
) -> torch.Tensor:
    """Standard normal latents for one picture.

    Args:
        channels: Latent channels of the model.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        scale: Pixels per latent along each edge.
        noise: Its next numbers are used.

    Returns:
        float32 `[1, channels, height // scale, width // scale]` on the CPU.
    """
    return noise.draw((1, channels, height // scale, width // scale))


def _drawn(generator: torch.Generator, shape: Sequence[int]) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
