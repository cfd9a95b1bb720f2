"""Training of a VAE from scratch, down to latents at the scale that pipelines expect."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from demo.train.parts.base import arrangement
from demo.train.parts.capture import captured
from demo.train.parts.compositing import Compositor
from demo.train.parts.emoji import SIDE
from demo.train.parts.latents import Vae, decode, encode, fold_latent_scale
from demo.train.parts.loop import Plan, Training, train
from demo.train.parts.losses import kl_loss, psnr, reconstruction_loss

KL_WEIGHT = 3e-4
AT_ONCE = 64
MEASURED_BATCHES = 8


class Reconstruction(nn.Module):
    """A VAE from pixels to pixels, as a function of tensors alone."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decoded pixels, and mean and log-variance of the latents, [B, 4, H/8, W/8].

        `noise` is a standard normal of the latents' shape.
        """
        posterior = self.vae.encode(pixels).latent_dist
        latents = posterior.mean + posterior.std * noise
        return self.vae.decode(latents).sample, posterior.mean, posterior.logvar


def train_vae(vae: Vae, compositor: Compositor, plan: Plan, *, name: str) -> Training:
    """Trains all of `vae` on composites, with L1, gradients and a little KL, then folds."""
    device = vae.device
    vae.to(memory_format=arrangement(device)).train()

    side = SIDE // 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (plan.batch, vae.config.latent_channels, side, side)
    reconstruct = captured(
        Reconstruction(vae),
        torch.zeros(plan.batch, 3, SIDE, SIDE, device=device),
        torch.zeros(shape, device=device),
    )

    def loss_of_step(_step: int) -> Tensor:
        pixels = compositor.draw(plan.batch).pixels
        result, mean, logvar = reconstruct(pixels, torch.randn(shape, device=device))
        kl = kl_loss(mean.float(), logvar.float())
        return reconstruction_loss(result.float(), pixels) + KL_WEIGHT * kl

    training = train(vae.parameters(), loss_of_step, plan, device=device, name=name)
    vae.requires_grad_(False).eval()
    parts = [encode(vae, compositor.draw(plan.batch).pixels) for _ in range(MEASURED_BATCHES)]
    latents = torch.cat(parts) / float(vae.config.scaling_factor)
    fold_latent_scale(vae, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
    return training


def reconstruction_psnr(vae: Vae, compositor: Compositor, count: int) -> float:
    """Mean PSNR in dB of `count` composites after encoding and decoding."""
    values = []
    for start in range(0, count, AT_ONCE):
        pixels = compositor.draw(min(AT_ONCE, count - start)).pixels
        values.append(psnr(decode(vae, encode(vae, pixels)), pixels))
    return float(torch.cat(values).mean())
