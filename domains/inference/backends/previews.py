"""Small pictures of unfinished work, by a linear map from latents to colours.

One matrix product replaces the VAE's decoder: latents of these models are close to linear
in colour at their own resolution. The map is fitted to each VAE by least squares.
"""

from __future__ import annotations

import io
import math
from typing import Any

import torch
from PIL import Image

from domains.inference.backends.decode import encode_mean
from domains.inference.backends.denoise import StepState
from domains.inference.backends.loaded import LoadedModel
from domains.inference.types import Preview

_FIT_EDGE = 32  # latents
_JPEG_QUALITY = 80
_LEAST_ALPHA = 1e-4


def fit_preview_matrix(model: LoadedModel) -> torch.Tensor:
    """Fit colours to latents on a made-up picture of smooth and blocky colours.

    Returns:
        float32 `[channels + 1, 3]` on the CPU: multiply latents with a one appended to
        get red, green and blue from -1 to 1.
    """
    scale = model.pixels_per_latent
    picture = _test_picture(_FIT_EDGE, scale)
    latents = encode_mean(
        model.networks["vae"],
        picture.to(model.device),
        model.plan_config("vae"),
        model.vae_numerics,
    )
    colours = torch.nn.functional.avg_pool2d(picture, scale)
    inputs = _with_one(latents.cpu())
    targets = colours[0].permute(1, 2, 0).reshape(-1, 3)
    matrix: torch.Tensor = torch.linalg.lstsq(inputs, targets).solution
    return matrix


def estimate_clean(state: StepState, scheduler: Any) -> torch.Tensor:
    """What the model believes the finished latents to be, from one step.

    What goes into the UNet is `sqrt(a) * x + sqrt(1 - a) * noise` for every scheduler
    here, `a` being the product of alphas at the timestep (arXiv:2010.02502, equation 12;
    for velocity arXiv:2202.00512, appendix D).

    Returns:
        float32 `[1, channels, height, width]` on the CPU.
    """
    sample, prediction = state.sample.float().cpu(), state.prediction.float().cpu()
    products = scheduler.alphas_cumprod
    index = min(max(round(float(state.timestep)), 0), len(products) - 1)
    alpha = max(float(products[index]), _LEAST_ALPHA)
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return prediction
    if kind == "v_prediction":
        return signal * sample - noise * prediction
    return (sample - noise * prediction) / signal


def draw_preview(
    latents: torch.Tensor, matrix: torch.Tensor, *, width: int, height: int, max_edge: int
) -> Preview:
    """Draw latents as a JPEG, the longer side at most `max_edge` pixels.

    Args:
        latents: float32 `[1, channels, h, w]` on the CPU.
        matrix: From `fit_preview_matrix`.
        width: Of the whole picture, in pixels.
        height: Of the whole picture, in pixels.
        max_edge: In pixels.
    """
    rows, columns = latents.shape[2:]
    colours = (_with_one(latents) @ matrix).nan_to_num().clamp(-1, 1)
    pixels = ((colours + 1) * 127.5).round().to(torch.uint8).reshape(rows, columns, 3)
    shrink = min(1.0, max_edge / max(width, height))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    image = Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY)
    return Preview(size[0], size[1], data.getvalue())


def _test_picture(edge: int, scale: int) -> torch.Tensor:
    """float32 `[1, 3, edge * scale, edge * scale]`, -1 to 1, the same every time."""
    generator = torch.Generator("cpu").manual_seed(0)
    pixels = edge * scale

    def noise(side: int, mode: str) -> torch.Tensor:
        small = torch.rand((1, 3, side, side), generator=generator) * 2 - 1
        return torch.nn.functional.interpolate(small, size=(pixels, pixels), mode=mode)

    blocks = torch.cat([noise(4, "bilinear"), noise(8, "nearest")], dim=3)
    return torch.nn.functional.interpolate(blocks, size=(pixels, pixels), mode="nearest")


def _with_one(latents: torch.Tensor) -> torch.Tensor:
    flat = latents[0].permute(1, 2, 0).reshape(-1, latents.shape[1])
    return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
