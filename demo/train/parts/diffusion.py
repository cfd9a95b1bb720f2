"""The noise schedule that all Stable Diffusion models share, and the loss trained under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

STEPS = 1000

# What an error counts, float32 [B], by the signal-to-noise ratio at its timestep.
Weight: TypeAlias = Callable[[Tensor], Tensor]

# Epsilon for noisy latents float32 [B, C, H, W] at int64 [B] timesteps.
Predict: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class NoiseSchedule:
    """The variance-preserving, "scaled linear" schedule of Stable Diffusion: 0.00085 to 0.012.

    `alphas_cumprod` is float32 [1000] on the device (Ho et al. 2020, equation 4).
    """

    def __init__(self, device: torch.device | str) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float32) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, dim=0).to(device)

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents noised to `timesteps`, int64 [B]."""
        kept = self.alphas_cumprod[timesteps][:, None, None, None]
        return kept.sqrt() * latents + (1 - kept).sqrt() * noise

    def clean(self, noisy: Tensor, epsilon: Tensor, timesteps: Tensor) -> Tensor:
        """The clean latents that `epsilon` implies: the inverse of `add`."""
        kept = self.alphas_cumprod[timesteps][:, None, None, None]
        return (noisy - (1 - kept).sqrt() * epsilon) / kept.sqrt()

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio, a / (1 - a), float32 [B]."""
        kept = self.alphas_cumprod[timesteps]
        return kept / (1 - kept)


def min_snr_weight(snr: Tensor, gamma: float = 5.0) -> Tensor:
    """The weight min(SNR, gamma) / SNR of an epsilon loss (Hang et al. 2023, section 3.4)."""
    return snr.clamp(max=gamma) / snr


def offset_noise(
    like: Tensor, strength: float = 0.08, generator: torch.Generator | None = None
) -> Tensor:
    """Gaussian noise plus a constant per picture and channel, so that means are learnt too."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=like.device, generator=generator)

    noise = normal(*like.shape)
    if strength > 0:
        noise = noise + strength * normal(*like.shape[:2], 1, 1)
    return noise


def epsilon_loss(
    predict: Predict,
    latents: Tensor,
    *,
    schedule: NoiseSchedule,
    generator: torch.Generator | None,
    low: int = 0,
    high: int = STEPS,
    weight: Weight | None = min_snr_weight,
    offset: float = 0.08,
    teacher: Predict | None = None,
) -> Tensor:
    """The weighted squared error of the predicted noise, a scalar.

    Timesteps are drawn uniformly from low to below high. `weight` None weighs all alike.
    `generator` lies on the latents' device. With a `teacher` its prediction is the target, not
    the noise that was added: that is the mean over all pictures that fit, so it varies less
    (Kim et al., "BK-SDM" (2023), equation 2).
    """
    timesteps = torch.randint(
        low, high, (len(latents),), device=latents.device, generator=generator
    )
    noise = offset_noise(latents, offset, generator)
    noisy = schedule.add(latents, noise, timesteps)
    target = noise
    if teacher is not None:
        with torch.no_grad():
            target = teacher(noisy, timesteps).float()
    error = (predict(noisy, timesteps).float() - target).square().mean(dim=(1, 2, 3))
    if weight is not None:
        error = error * weight(schedule.snr(timesteps))
    return error.mean()


@torch.no_grad()
def epsilon_error(
    predict: Predict,
    latents: Tensor,
    *,
    schedule: NoiseSchedule,
    low: int = 0,
    high: int = STEPS,
    seed: int = 0,
) -> float:
    """The plain mean squared error of the predicted noise, for comparing models.

    The same seed gives the same noise and timesteps, so two models can be compared.
    """
    generator = torch.Generator(latents.device).manual_seed(seed)
    error = epsilon_loss(
        predict,
        latents,
        schedule=schedule,
        generator=generator,
        low=low,
        high=high,
        weight=None,
        offset=0.0,
    )
    return float(error)
