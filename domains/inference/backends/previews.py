"""Small pictures of unfinished work, by a linear map from latents to colours.

One matrix product replaces the VAE's decoder: at their own resolution latents and their
neighbours determine the colours well. The map is fitted to each VAE by least squares.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from PIL import Image

from domains.inference.backends.denoise import StepState
from domains.inference.backends.seamless import NO_EDGES, Edges
from domains.inference.backends.vae import encode_mean
from domains.inference.backends.vae_part import Vae
from domains.picture.backends.previews import preview_of, preview_size
from domains.session.types import Preview

_FIT_EDGE = 32  # latents
_RIDGE = 0.01
_LEAST_ALPHA = 1e-4


def fit_preview_matrix(vae: Vae) -> torch.Tensor:
    """Fit colours to latents on made-up pictures of blocky and of smooth colours.

    Returns:
        float32 `[9 * channels + 1, 3]` on the CPU: multiply a latent's neighbourhood of
        three by three, with a one appended, to get red, green and blue from -1 to 1.
    """
    scale = vae.pixels_per_latent
    inputs, targets = [], []
    for picture in _test_pictures(_FIT_EDGE * scale):
        latents = encode_mean(
            vae.network,
            picture.to(vae.device),
            vae.config,
            vae.numerics,
        )
        inputs.append(_neighbourhoods(latents.cpu()))
        colours = torch.nn.functional.avg_pool2d(picture, scale)
        targets.append(colours[0].permute(1, 2, 0).reshape(-1, 3))
    known, wanted = torch.cat(inputs), torch.cat(targets)
    # Neighbours resemble each other; a little ridge keeps their weights small.
    ridge = _RIDGE * len(known) * torch.eye(known.shape[1])
    solution: torch.Tensor = torch.linalg.solve(known.T @ known + ridge, known.T @ wanted)
    return solution


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
    latents: torch.Tensor,
    matrix: torch.Tensor,
    *,
    image_index: int,
    step: int,
    width: int,
    height: int,
    max_edge: int,
    edges: Edges = NO_EDGES,
) -> Preview:
    """Draw latents as a JPEG, the longer side at most `max_edge` pixels.

    Args:
        latents: float32 `[1, channels, h, w]` on the CPU.
        matrix: From `fit_preview_matrix`.
        image_index: Which picture, from 0.
        step: After which step, from 1.
        width: Of the whole picture, in pixels.
        height: Of the whole picture, in pixels.
        max_edge: In pixels.
        edges: Those that continue at the opposite ones.
    """
    rows, columns = latents.shape[2:]
    colours = (_neighbourhoods(latents, edges) @ matrix).nan_to_num().clamp(-1, 1)
    pixels = ((colours + 1) * 127.5).round().to(torch.uint8).reshape(rows, columns, 3)
    size = preview_size((width, height), max_edge)
    image = Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.BICUBIC)
    return preview_of(image, image_index=image_index, step=step)


def _test_pictures(edge: int) -> list[torch.Tensor]:
    """float32 `[1, 3, edge, edge]` each, -1 to 1, the same every time."""
    generator = torch.Generator("cpu").manual_seed(0)

    def colours(side: int, mode: str) -> torch.Tensor:
        # Twice the range, clipped: pictures are full of pure black, white and colour.
        small = (torch.rand((1, 3, side, side), generator=generator) * 4 - 2).clamp(-1, 1)
        return torch.nn.functional.interpolate(small, size=(edge, edge), mode=mode)

    return [colours(8, "nearest"), colours(6, "bilinear")]


def _neighbourhoods(latents: torch.Tensor, edges: Edges = NO_EDGES) -> torch.Tensor:
    """`[height * width, 9 * channels + 1]` of `[1, channels, height, width]`."""
    columns, rows = int(not edges.horizontally), int(not edges.vertically)
    padded = torch.nn.functional.pad(
        edges.around(latents, 1, 1), (columns, columns, rows, rows), mode="replicate"
    )
    flat = torch.nn.functional.unfold(padded, 3)[0].T
    return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
