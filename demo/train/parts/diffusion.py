"""The noise schedule that all Stable Diffusion models share, and the loss trained under it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 1000


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
    predict: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    *,
    schedule: NoiseSchedule,
    generator: torch.Generator | None,
    low: int = 0,
    high: int = STEPS,
    gamma: float | None = 5.0,
    offset: float = 0.08,
) -> Tensor:
    """The weighted squared error of the predicted noise, a scalar.

    `predict(noisy, timesteps)` gives epsilon for latents float32 [B, C, H, W] at int64 [B]
    timesteps, drawn uniformly from low to below high. `gamma` None weighs all alike.
    `generator` lies on the latents' device.
    """
    timesteps = torch.randint(
        low, high, (len(latents),), device=latents.device, generator=generator
    )
    noise = offset_noise(latents, offset, generator)
    epsilon = predict(schedule.add(latents, noise, timesteps), timesteps)
    error = (epsilon.float() - noise).square().mean(dim=(1, 2, 3))
    if gamma is not None:
        error = error * min_snr_weight(schedule.snr(timesteps), gamma)
    return error.mean()


@torch.no_grad()
def epsilon_error(
    predict: Callable[[Tensor, Tensor], Tensor],
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
        gamma=None,
        offset=0.0,
    )
    return float(error)
