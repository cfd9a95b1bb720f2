"""Latents to pixels through the VAE, and pictures to latents for fitting previews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from domains.inference.backends.device import Numerics
from domains.inference.backends.tiled_decode import decode_tiled


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
) -> torch.Tensor:
    """As `decode`, with the memory of a few tiles; faint seams are possible.

    Args:
        vae: An `AutoencoderKL`, in `numerics`.
        latents: As for `decode`.
        config: As for `decode`.
        numerics: As for `decode`.
        check_stop: Called before each tile; may raise to stop.
    """
    scale = 2 ** (len(config["block_out_channels"]) - 1)
    scaled = _prepare(latents, config, numerics)
    return decode_tiled(vae, scaled, scale=scale, check_stop=check_stop)


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
        float32 `[1, channels, height, width]` in latents.
    """
    image = image.to(numerics.data_type)
    distribution = vae.encode(image, return_dict=False)[0]  # type: ignore[operator]
    mean: torch.Tensor = distribution.mean
    return _scale(mean.to(torch.float32), config)


def _prepare(latents: torch.Tensor, config: dict[str, Any], numerics: Numerics) -> torch.Tensor:
    scaled = _unscale(latents, config).to(numerics.data_type)
    if numerics.channels_last:
        scaled = scaled.contiguous(memory_format=torch.channels_last)
    return scaled


def _unscale(latents: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    factor: float = config["scaling_factor"]
    statistics = _statistics(latents, config)
    if statistics is None:
        return latents / factor
    mean, spread = statistics
    return latents * spread / factor + mean


def _scale(latents: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    factor: float = config["scaling_factor"]
    statistics = _statistics(latents, config)
    if statistics is None:
        return latents * factor
    mean, spread = statistics
    return (latents - mean) * factor / spread


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
