"""Numbers that say how a picture looks. All take float pictures [N, 3, H, W] in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 16
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def saturation(pictures: Tensor) -> Tensor:
    """Mean saturation of HSV over each picture's pixels, [N] in [0, 1]."""
    most, least = pictures.amax(dim=1), pictures.amin(dim=1)
    return ((most - least) / most.clamp_min(1e-6)).mean(dim=(1, 2))


def block_uniformity(pictures: Tensor, block: int = BLOCK) -> Tensor:
    """How much of a picture's variation lies between blocks rather than within them, [N].

    One minus the standard deviation within `block` x `block` blocks, over the picture's own
    standard deviation, both as root mean squares over channels: 1 for pictures made of plain
    blocks, about 0 for noise.
    """
    means = functional.avg_pool2d(pictures, block)
    spread = functional.interpolate(means, scale_factor=block, mode="nearest")
    within = (pictures - spread).square().mean(dim=(1, 2, 3)).sqrt()
    overall = pictures - pictures.mean(dim=(2, 3), keepdim=True)
    return 1 - within / overall.square().mean(dim=(1, 2, 3)).sqrt().clamp_min(1e-6)


def luma(pictures: Tensor) -> Tensor:
    """Brightness as video has it, [N, 1, H, W]."""
    weights = pictures.new_tensor(_LUMA).view(1, 3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def background(pictures: Tensor, border: int = 6) -> Tensor:
    """The median colour of the outer `border` pixels, [N, 3]."""
    rim = torch.ones(pictures.shape[-2:], dtype=torch.bool)
    rim[border:-border, border:-border] = False
    return pictures[..., rim].median(dim=-1).values


def drawn(pictures: Tensor, distance: float = 0.12) -> Tensor:
    """Where a colour is not the background's, bool [N, 1, H, W]."""
    colour = background(pictures)[..., None, None]
    return (pictures - colour).abs().amax(dim=1, keepdim=True) > distance


def recognised(pictures: Tensor, truth: Tensor, side: int = 16) -> float:
    """The share of pictures whose nearest in `truth`, shrunk to `side`, is their own."""
    ours, theirs = (
        functional.adaptive_avg_pool2d(some, side).flatten(1) for some in (pictures, truth)
    )
    nearest = torch.cdist(ours, theirs).argmin(dim=1)
    return float((nearest == torch.arange(len(pictures))).float().mean())
