"""Losses between pictures, all for pixels [B, 3, H, W] in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def gradient_loss(result: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients, over halved sizes.

    Keeps edges sharp, which an L1 of pixels alone blurs.
    """
    total = result.new_zeros(())
    for scale in range(scales):
        if scale:
            result, target = functional.avg_pool2d(result, 2), functional.avg_pool2d(target, 2)
        error = result - target
        total = total + (error[..., 1:] - error[..., :-1]).abs().mean()
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return total / scales


def reconstruction_loss(result: Tensor, target: Tensor) -> Tensor:
    """L1 of pixels plus the multi-scale gradient loss, a scalar."""
    return functional.l1_loss(result, target) + gradient_loss(result, target)


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean KL divergence per latent value from a standard normal, a scalar."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


@torch.no_grad()
def psnr(result: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture, float32 [B]; result is cut to range."""
    error = ((result.clamp(-1, 1) - target) / 2).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp(min=1e-12).log10()
