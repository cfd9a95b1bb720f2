"""How a denoising leaves a part of a picture as it is.

The formulas are those of diffusers' StableDiffusion(XL)InpaintPipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


class Masking:
    """What a mask changes in each step. Masks are 1 where it is redrawn, 0 where it is kept."""

    def shown(self, sample: torch.Tensor) -> torch.Tensor:
        """What the UNet gets for a sample.

        Args:
            sample: float32 `[batch, channels, height, width]`, scaled for its timestep.
        """
        return sample

    def kept(
        self, scheduler: Any, latents: torch.Tensor, following: torch.Tensor | None
    ) -> torch.Tensor:
        """The latents after a step with what is kept put back.

        Args:
            scheduler: The step's.
            latents: float32 `[1, channels, height, width]`.
            following: The timestep that comes next; None after the last.
        """
        return latents


@dataclass(frozen=True)
class PutBack(Masking):
    """For a UNet that knows nothing of masks: what is kept is put back after each step, with
    as much of the `noise` as belongs to it then.

    All are float32 `[1, channels, height, width]` on the device, the mask with one channel.
    """

    mask: torch.Tensor
    clean: torch.Tensor
    noise: torch.Tensor

    def kept(
        self, scheduler: Any, latents: torch.Tensor, following: torch.Tensor | None
    ) -> torch.Tensor:
        """See `Masking`."""
        proper = self.clean
        if following is not None:
            times = torch.tensor([following])
            proper = scheduler.add_noise(self.clean, self.noise, times)
        return (1 - self.mask) * proper + self.mask * latents


@dataclass(frozen=True)
class Shown(Masking):
    """For a UNet with further channels: the mask, and the latents of the picture without its
    masked part. `channels` is float32 `[1, further channels, height, width]` on the device."""

    channels: torch.Tensor

    def shown(self, sample: torch.Tensor) -> torch.Tensor:
        """See `Masking`."""
        further = self.channels.expand(sample.shape[0], *self.channels.shape[1:])
        return torch.cat([sample, further], dim=1)
