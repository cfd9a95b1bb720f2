"""Inpainting on a loaded model: a picture and its mask in latents, and where drawing begins.

The order in which numbers are drawn and the formulas are those of diffusers'
StableDiffusion(XL)InpaintPipeline; the fills NOISE and EMPTY are those of AUTOMATIC1111's
stable-diffusion-webui ("latent noise", "latent nothing").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from domains.inference.backends.encoding import to_image
from domains.inference.backends.latents import Noise
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.masked_picture import MaskedPicture
from domains.inference.backends.masking import Masking, PutBack, Shown
from domains.inference.backends.start import Posterior, Start
from domains.inference.backends.vae import scale_latents
from domains.inference.types import GenerationSettings, InpaintingFill, resolved
from domains.model.backends.bounds import Config

Encode = Callable[[torch.Tensor], Posterior]
"""Encodes float32 `[1, 3, height, width]`, -1 to 1."""


@dataclass(frozen=True)
class InpaintingSource:
    """What every image of a job is drawn from.

    `mask` is float32 `[1, 1, height, width]` in latents. `picture` is None where nothing of it
    is needed, `masked` (the picture, grey where it is redrawn) where the UNet does not take it.
    """

    settings: GenerationSettings
    vae_config: Config
    device: torch.device
    mask: torch.Tensor
    picture: Posterior | None
    masked: Posterior | None

    def start(self, scheduler: Any, noise: Noise) -> Start:
        """Where one image's denoising begins.

        Args:
            scheduler: Fresh, set to begin after the skipped steps.
            noise: Its next numbers are used.
        """
        settings = self.settings
        first = settings.skipped_steps * scheduler.order
        clean = None
        if self.picture is not None:
            # As it lies in memory there: that decides how the UNet rounds.
            clean = self._sampled(self.picture, noise).contiguous()
        shape = (1, self.channels, *self.mask.shape[-2:])
        added = noise.draw(shape)
        if self.masked is None:
            # The pipelines encode the masked picture for every UNet.
            noise.draw(shape)
            masking = self._putting_back(resolved(clean), added)
        else:
            masked = self._sampled(self.masked, noise)
            masking = Shown(torch.cat([self.mask, masked], dim=1).to(self.device))
        if clean is None or resolved(settings.inpainting).strength == 1:
            latents = added * scheduler.init_noise_sigma
        else:
            begun = self._filled(clean, noise)
            latents = scheduler.add_noise(begun, added, scheduler.timesteps[first : first + 1])
        return Start(latents, first, settings.steps_taken, masking)

    @property
    def channels(self) -> int:
        """Of latents."""
        return int(self.vae_config["latent_channels"])

    def _sampled(self, posterior: Posterior, noise: Noise) -> torch.Tensor:
        return scale_latents(posterior.sample(noise), self.vae_config)

    def _putting_back(self, clean: torch.Tensor, noise: torch.Tensor) -> Masking:
        mask, clean, noise = (one.to(self.device) for one in (self.mask, clean, noise))
        return PutBack(mask, clean, noise)

    def _filled(self, clean: torch.Tensor, noise: Noise) -> torch.Tensor:
        """With what the redrawn part holds before it is noised."""
        fill = resolved(self.settings.inpainting).fill
        if fill is InpaintingFill.EMPTY:
            return clean * (1 - self.mask)
        if fill is InpaintingFill.NOISE:
            return clean * (1 - self.mask) + noise.draw(clean.shape) * self.mask
        return clean


def takes_masks(model: LoadedModel) -> bool:
    """Whether a model's UNet takes a mask and a masked picture beside the latents."""
    config = model.plan_config("unet")
    return bool(config["in_channels"] != config["out_channels"])


def encode_masked(
    scene: MaskedPicture,
    settings: GenerationSettings,
    encode: Encode,
    *,
    takes_masks: bool,
    vae_config: Config,
    device: torch.device,
) -> InpaintingSource:
    """Encode a picture for inpainting; once, each image samples it for itself.

    Args:
        scene: Picture and mask.
        settings: Resolved.
        encode: Encodes pixels.
        takes_masks: Whether the UNet takes mask and masked picture beside the latents.
        vae_config: The VAE's configuration.
        device: Where the UNet is.
    """
    image, redrawn = to_image(scene.shown()), scene.redrawn()
    needed = not takes_masks or resolved(settings.inpainting).strength < 1
    picture = encode(image) if needed else None
    masked = encode(image * (redrawn < 0.5)) if takes_masks else None
    found = picture or resolved(masked)
    mask = torch.nn.functional.interpolate(redrawn, size=found.mean.shape[-2:])
    return InpaintingSource(settings, vae_config, device, mask, picture, masked)
