"""Inpainting on a loaded model: a picture and its mask in latents, and where drawing begins.

The order in which numbers are drawn and the formulas are those of diffusers'
StableDiffusion(XL)InpaintPipeline; the fills NOISE and EMPTY are those of AUTOMATIC1111's
stable-diffusion-webui ("latent noise", "latent nothing").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from domains.inference.backends.latents import Noise
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.masked_picture import MaskedPicture
from domains.inference.backends.masking import Masking, PutBack, Shown
from domains.inference.backends.start import CleanLatents, Start
from domains.inference.types import Inpainting, InpaintingFill, resolved


@dataclass(frozen=True)
class InpaintingSource:
    """What one pass is drawn from.

    `mask` is float32 `[1, 1, height, width]` in latents, of which a picture has so many
    `channels`; `device` is where the UNet is. `picture` is None where nothing of it is needed.
    `masked` is the picture, grey where it is redrawn: it takes numbers also where the UNet does
    not take it, as the pipelines encode it for every one; None where they do not.
    """

    device: torch.device
    channels: int
    mask: torch.Tensor
    picture: CleanLatents | None
    masked: CleanLatents | None
    takes_masks: bool

    def start(
        self, scheduler: Any, noise: Noise, how: Inpainting, *, steps: int, skipped: int
    ) -> Start:
        """Where one image's denoising begins.

        Args:
            scheduler: Fresh, set to begin after the skipped steps.
            noise: Its next numbers are used.
            how: Strength and fill of this pass.
            steps: Of the whole schedule.
            skipped: Those of them that are left out, fewer than all.
        """
        first = skipped * scheduler.order
        # As it lies in memory there: that decides how the UNet rounds.
        clean = None if self.picture is None else self.picture(noise).contiguous()
        added = noise.draw((1, self.channels, *self.mask.shape[-2:]))
        masked = None if self.masked is None else self.masked(noise)
        if self.takes_masks:
            channels = torch.cat([self.mask, resolved(masked)], dim=1)
            masking: Masking = Shown(channels.to(self.device))
        else:
            masking = putting_back(self.mask, resolved(clean), added, self.device)
        if clean is None or how.strength == 1:
            latents = added * scheduler.init_noise_sigma
        else:
            begun = self._filled(clean, how.fill, noise)
            latents = scheduler.add_noise(begun, added, scheduler.timesteps[first : first + 1])
        return Start(latents, first, steps - skipped, masking)

    def _filled(self, clean: torch.Tensor, fill: InpaintingFill, noise: Noise) -> torch.Tensor:
        """With what the redrawn part holds before it is noised."""
        if fill is InpaintingFill.EMPTY:
            return clean * (1 - self.mask)
        if fill is InpaintingFill.NOISE:
            return clean * (1 - self.mask) + noise.draw(clean.shape) * self.mask
        return clean


def putting_back(
    mask: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor, device: torch.device
) -> PutBack:
    """What keeps a part on `device`; all are float32 `[1, channels, height, width]`."""
    mask, clean, noise = (one.to(device) for one in (mask, clean, noise))
    return PutBack(mask, clean, noise)


def takes_masks(model: LoadedModel) -> bool:
    """Whether a model's UNet takes a mask and a masked picture beside the latents."""
    config = model.plan_config("unet")
    return bool(config["in_channels"] != config["out_channels"])


def mask_in_latents(scene: MaskedPicture, pixels_per_latent: int) -> torch.Tensor:
    """What of it is redrawn: float32 `[1, 1, height, width]` in latents."""
    redrawn = scene.redrawn()
    height, width = (edge // pixels_per_latent for edge in redrawn.shape[-2:])
    return torch.nn.functional.interpolate(redrawn, size=(height, width))


def without_redrawn(scene: MaskedPicture, image: torch.Tensor) -> torch.Tensor:
    """An image, float32 `[1, 3, height, width]`, -1 to 1, grey where the scene is redrawn."""
    return image * (scene.redrawn() < 0.5)
