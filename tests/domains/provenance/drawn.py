"""Pictures for tests of marks, made here, and what happens to pictures on their way."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def pictures(size: int) -> Iterator[tuple[str, Pixels]]:
    """Plain, smooth, drawn and photograph-like ones, uint8 `[size, size, 3]`."""
    y, x = np.mgrid[0:size, 0:size] / size
    for name, level in (("white", 255), ("black", 0), ("grey", 128)):
        yield name, np.full((size, size, 3), level, np.uint8)
    yield "slopes", (np.stack([x, y, 1 - x], -1) * 255).astype(np.uint8)
    rings = np.where(np.hypot(x - 0.5, y - 0.5) % 0.2 < 0.1, 240, 30)
    yield "rings", np.repeat(rings.astype(np.uint8)[..., None], 3, 2)
    yield "photograph-like", photograph(size, 1)


def photograph(size: int, seed: int) -> Pixels:
    """As rough at every scale as photographs are: amplitudes fall as 1 / frequency."""
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((3, size, size)))
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    radius[0, 0] = 1
    rough = np.fft.irfft2(noise / radius**1.2, (size, size))
    rough = (rough / rough.std() * 50 + 128).clip(0, 255)
    return np.moveaxis(rough, 0, -1).astype(np.uint8)


def as_jpeg(pixels: Pixels, quality: int = 85) -> Pixels:
    """What a JPEG of it shows."""
    return saved_as(pixels, "JPEG", quality=quality)


def saved_as(pixels: Pixels, format: str, **options: int) -> Pixels:
    """What a file of it shows."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format, **options)
    return np.asarray(Image.open(data).convert("RGB"))


def cropped(pixels: Pixels) -> Pixels:
    """A tenth less high and wide, from an odd place."""
    height, width = pixels.shape[:2]
    top, left = height // 10 - 3, width // 17
    return pixels[top : top + height * 9 // 10, left : left + width * 9 // 10]


def decibels(one: Pixels, other: Pixels) -> float:
    """PSNR of two pictures."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / error))
