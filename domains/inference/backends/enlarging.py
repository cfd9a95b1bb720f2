"""From what a first pass has drawn to what the second one starts from."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, gcd

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from domains.inference.backends.images import Pixels
from domains.inference.backends.seamless import NO_EDGES, Edges

# As far as the widest of the filters here looks.
_SEEN = 4

Resize = Callable[[Pixels, tuple[int, int]], Pixels]
"""Gives a picture, uint8 `[h, w, 3]`, in another width and height."""


def enlarge_latents(
    latents: torch.Tensor, height: int, width: int, edges: Edges = NO_EDGES
) -> torch.Tensor:
    """Latents in another size, by linear interpolation between the four closest ones.

    It is the filter that stable-diffusion-webui's second pass calls "Latent".

    Args:
        latents: float32 `[1, channels, h, w]`.
        height: In latents.
        width: In latents.
        edges: Those that continue at the opposite ones.
    """
    columns = _around(latents.shape[-1], width, _SEEN) if edges.horizontally else (0, 0)
    rows = _around(latents.shape[-2], height, _SEEN) if edges.vertically else (0, 0)
    seen = edges.around(latents, columns[0], rows[0])
    size = (height + 2 * rows[1], width + 2 * columns[1])
    larger = functional.interpolate(seen, size=size, mode="bilinear", align_corners=False)
    return larger[..., rows[1] : rows[1] + height, columns[1] : columns[1] + width]


def enlarge_pixels(pixels: Pixels, height: int, width: int, edges: Edges = NO_EDGES) -> Pixels:
    """A picture in another size, with Lanczos.

    Args:
        pixels: uint8 `[h, w, 3]`.
        height: In pixels.
        width: In pixels.
        edges: Those that continue at the opposite ones.
    """
    return continued(pixels, height, width, edges, _lanczos, _SEEN)


def continued(
    pixels: Pixels, height: int, width: int, edges: Edges, resize: Resize, seen: int
) -> Pixels:
    """A picture in another size, resized with what lies beyond edges that continue at the
    opposite ones.

    Args:
        pixels: uint8 `[h, w, 3]`.
        height: In pixels.
        width: In pixels.
        edges: Those that do.
        resize: Is given a picture that is larger by what is seen.
        seen: The least that is to be seen beyond such an edge, in pixels; at most the picture
            once.
    """
    columns = _around(pixels.shape[1], width, seen) if edges.horizontally else (0, 0)
    rows = _around(pixels.shape[0], height, seen) if edges.vertically else (0, 0)
    around = np.pad(pixels, ((rows[0],) * 2, (columns[0],) * 2, (0, 0)), mode="wrap")
    larger = resize(around, (width + 2 * columns[1], height + 2 * rows[1]))
    return larger[rows[1] : rows[1] + height, columns[1] : columns[1] + width]


def _lanczos(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _around(own: int, wanted: int, least: int) -> tuple[int, int]:
    """How many more are to be seen on either side along an edge, and how many those become: the
    fewest that are no less than `least` and become a whole number."""
    whole = own // gcd(own, wanted)
    seen = min(ceil(least / whole) * whole, own)
    return seen, seen * wanted // own
