"""Where a denoising begins: noise alone, or latents of a picture with noise on them.

The order in which numbers are drawn and the formulas are those of diffusers' pipelines
(`prepare_latents`, `get_timesteps` of StableDiffusion(XL)Pipeline and Img2ImgPipeline).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from domains.inference.backends.latents import Noise
from domains.inference.backends.masking import Masking

CleanLatents = Callable[[Noise], torch.Tensor]
"""What a denoising starts from before noise is added, as float32 latents on the CPU; the next
numbers of the noise are used where a VAE's answer is a distribution."""


@dataclass(frozen=True)
class Start:
    """Latents at the noise level of a schedule's timestep `first`, and the steps from there.

    `latents` are float32 `[1, channels, height, width]` on the CPU. `first` counts calls of
    the UNet, of which some schedulers need two a step; `steps` are as the user counts them.
    `masking` keeps a part of a picture from being redrawn. `end` is the first call that another
    model does; None where this one finishes. `before` and `after` are steps of the same picture
    that another model does.
    """

    latents: torch.Tensor
    first: int
    steps: int
    masking: Masking | None = None
    end: int | None = None
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class Posterior:
    """What a VAE knows of a picture's latents: a normal distribution around `mean`.

    Both are float32 `[1, channels, height, width]` on the CPU, in the VAE's own scale.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def sample(self, noise: Noise) -> torch.Tensor:
        """Latents of the picture; the noise's next numbers are used."""
        return self.mean + self.spread * noise.draw(self.mean.shape)


def from_noise(scheduler: Any, noise: torch.Tensor, *, steps: int) -> Start:
    """The beginning of a whole schedule.

    Args:
        scheduler: Fresh, its timesteps set.
        noise: float32 standard normal `[1, channels, height, width]` on the CPU.
        steps: Of the schedule.
    """
    return Start(noise * scheduler.init_noise_sigma, 0, steps)


def from_latents(
    scheduler: Any,
    clean: torch.Tensor,
    noise: Noise,
    *,
    steps: int,
    skipped: int,
) -> Start:
    """A schedule without its first steps, on latents with as much noise as is left then.

    Args:
        scheduler: Fresh, set to begin after the skipped steps.
        clean: float32 `[1, channels, height, width]` on the CPU, as the UNet knows them.
        noise: Its next numbers are what is added.
        steps: Of the whole schedule.
        skipped: Those of them that are left out, fewer than all.
    """
    first = skipped * scheduler.order
    added = noise.draw(clean.shape)
    latents = scheduler.add_noise(clean, added, scheduler.timesteps[first : first + 1])
    return Start(latents, first, steps - skipped)
