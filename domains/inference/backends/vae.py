"""Latents to pixels through the VAE, and pictures to latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from domains.inference.backends.device import Numerics
from domains.inference.backends.seamless import NO_EDGES, Edges
from domains.inference.backends.start import Posterior
from domains.inference.backends.tiled_decode import OVERLAP, TILE_LATENTS, decode_tiled
from domains.inference.backends.tiled_encode import encode_tiled
from domains.model.backends.sizes import pixels_per_latent


def decode(
    vae: nn.Module, latents: torch.Tensor, config: dict[str, Any], numerics: Numerics
) -> torch.Tensor:
    """Decode the latents of one picture.

    Args:
        vae: An autoencoder, in `numerics`.
        latents: float32 `[1, channels, height, width]` as the UNet knows them.
        config: The VAE's configuration: its scale, and mean and spread if it has them.
        numerics: What `vae` computes in.

    Returns:
        `[1, 3, height, width]` in pixels, about -1 to 1, in the VAE's type.
    """
    scaled = _prepare(latents, config, numerics)
    image: torch.Tensor = vae.decode(scaled, return_dict=False)[0]  # type: ignore[operator]
    return image


def decode_in_tiles(
    vae: nn.Module,
    latents: torch.Tensor,
    config: dict[str, Any],
    numerics: Numerics,
    *,
    check_stop: Callable[[], None],
    edges: Edges = NO_EDGES,
) -> torch.Tensor:
    """As `decode`, with the memory of a few tiles; faint seams are possible.

    Beyond edges that continue, tiles see what is there; a tile has no such edges of its own.

    Args:
        vae: An `AutoencoderKL`, in `numerics`.
        latents: As for `decode`.
        config: As for `decode`.
        numerics: As for `decode`.
        check_stop: Called before each tile; may raise to stop.
        edges: Those that continue.
    """
    scale = pixels_per_latent(config)
    around = _overlap(latents.shape, edges)
    scaled = _prepare(edges.around(latents, *around), config, numerics)
    pixels = decode_tiled(vae, scaled, scale=scale, check_stop=check_stop)
    return _without(pixels, around, scale)


# Beyond these the logarithm of a variance is cut, as in diffusers' distribution.
_LEAST_LOG, _GREATEST_LOG = -30.0, 20.0


def encode(vae: nn.Module, image: torch.Tensor, numerics: Numerics) -> Posterior:
    """Encode a picture to what the VAE knows of its latents.

    Args:
        vae: An autoencoder, in `numerics`.
        image: float32 `[1, 3, height, width]` in pixels, -1 to 1.
        numerics: What `vae` computes in.
    """
    distribution = vae.encode(_laid_out(image, numerics), return_dict=False)[0]  # type: ignore[operator]
    return _posterior(distribution.parameters)


def encode_in_tiles(
    vae: nn.Module,
    image: torch.Tensor,
    config: dict[str, Any],
    numerics: Numerics,
    *,
    check_stop: Callable[[], None],
    edges: Edges = NO_EDGES,
) -> Posterior:
    """As `encode`, with the memory of a few tiles, which are as those of `decode_in_tiles`.

    Args:
        vae: An `AutoencoderKL`, in `numerics`.
        image: As for `encode`.
        config: The VAE's configuration.
        numerics: As for `encode`.
        check_stop: Called before each tile; may raise to stop.
        edges: Those that continue.
    """
    scale = pixels_per_latent(config)
    height, width = image.shape[-2:]
    columns, rows = around = _overlap((height // scale, width // scale), edges)
    laid_out = _laid_out(edges.around(image, columns * scale, rows * scale), numerics)
    moments = encode_tiled(vae, laid_out, scale=scale, check_stop=check_stop)
    return _posterior(_without(moments, around, 1))


def encode_mean(
    vae: nn.Module, image: torch.Tensor, config: dict[str, Any], numerics: Numerics
) -> torch.Tensor:
    """Encode a picture to the mean of its latents, scaled as the UNet knows them.

    Args:
        vae: An autoencoder, in `numerics`.
        image: float32 `[1, 3, height, width]` in pixels, -1 to 1.
        config: The VAE's configuration.
        numerics: What `vae` computes in.

    Returns:
        float32 `[1, channels, height, width]` in latents, on the CPU.
    """
    return scale_latents(encode(vae, image, numerics).mean, config)


def scale_latents(latents: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    """Latents in the VAE's own scale as the UNet knows them.

    Args:
        latents: float32 `[1, channels, height, width]`.
        config: The VAE's configuration: its scale, and mean and spread if it has them.
    """
    factor: float = config["scaling_factor"]
    statistics = _statistics(latents, config)
    if statistics is None:
        return latents * factor
    mean, spread = statistics
    return (latents - mean) * factor / spread


def _overlap(shape: Sequence[int], edges: Edges) -> tuple[int, int]:
    """How many latents more tiles see left and right, and above and below."""
    height, width = shape[-2:]
    seen = int(TILE_LATENTS * OVERLAP)
    return (
        min(seen, width) if edges.horizontally else 0,
        min(seen, height) if edges.vertically else 0,
    )


def _without(tensor: torch.Tensor, around: tuple[int, int], scale: int) -> torch.Tensor:
    """The middle of what was made with so many latents around it."""
    columns, rows = around[0] * scale, around[1] * scale
    height, width = tensor.shape[-2:]
    return tensor[..., rows : height - rows, columns : width - columns]


def _posterior(parameters: torch.Tensor) -> Posterior:
    mean, logarithm = parameters.to(torch.float32).cpu().chunk(2, dim=1)
    return Posterior(mean, torch.exp(0.5 * logarithm.clamp(_LEAST_LOG, _GREATEST_LOG)))


def _prepare(latents: torch.Tensor, config: dict[str, Any], numerics: Numerics) -> torch.Tensor:
    return _laid_out(_unscale(latents, config), numerics)


def _laid_out(tensor: torch.Tensor, numerics: Numerics) -> torch.Tensor:
    """In the type and layout that the VAE computes in."""
    tensor = tensor.to(numerics.data_type)
    if numerics.channels_last:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _unscale(latents: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    factor: float = config["scaling_factor"]
    statistics = _statistics(latents, config)
    if statistics is None:
        return latents / factor
    mean, spread = statistics
    return latents * spread / factor + mean


def _statistics(
    latents: torch.Tensor, config: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    mean, spread = config.get("latents_mean"), config.get("latents_std")
    if mean is None or spread is None:
        return None
    shape = (1, latents.shape[1], 1, 1)
    return (
        torch.tensor(mean).view(shape).to(latents.device, latents.dtype),
        torch.tensor(spread).view(shape).to(latents.device, latents.dtype),
    )
