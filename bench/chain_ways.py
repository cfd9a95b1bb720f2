"""Chains of steps two ways, for benchmarks: by the server's executor, and as somebody would
write them down with Pillow, NumPy, SciPy and torch."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

from bench.upscaling_ways import plain_call
from domains.chain.backends.canvas import Canvas
from domains.chain.backends.executor import Executor
from domains.chain.backends.steps.bands import Between
from domains.chain.backends.upscaling.enlarging import enlarge
from domains.chain.backends.upscaling.loading import load_upscaler
from domains.chain.backends.upscaling.upscaler import Upscaler
from domains.chain.types import (
    ColorStep,
    CropStep,
    FaceRestoreStep,
    LutStep,
    PadStep,
    ResizeStep,
    RotateStep,
    SharpenStep,
    Step,
    Table,
    UpscaleStep,
)
from domains.picture.backends.encoding import encode_image
from domains.values import ImageFileFormat, ModelPlace, OutputSettings

Pixels = npt.NDArray[np.uint8]
_MODEL = Path(__file__).resolve().parent.parent / "demo" / "models" / "compact-2x.safetensors"
_CPU = torch.device("cpu")
_ENTRIES = 17
_QUALITY = 95


@dataclass(frozen=True)
class Chain:
    """Steps and the same without this server.

    Attributes:
        name: Of the chain.
        steps: What the executor does.
        plain: Makes of pixels those of the result.
        format: Of the result's file.
        apart: The most that a level of the two may differ by: they round at other places.
    """

    name: str
    steps: tuple[Step, ...]
    plain: Callable[[Pixels], Pixels]
    format: ImageFileFormat
    apart: int

    @property
    def output(self) -> OutputSettings:
        """How the file is made."""
        return OutputSettings(format=self.format, quality=_QUALITY)


@cache
def upscaler() -> Upscaler:
    """The demo's of factor 2, read once."""
    return load_upscaler(ModelPlace.of(_MODEL), _CPU)


class _Networks:
    """Does steps with that one."""

    def enlarge(self, canvas: Canvas, step: UpscaleStep, between: Between) -> Canvas:
        how = (step.factor, step.tile_pixels, step.tile_overlap_pixels)
        return Canvas(enlarge(upscaler(), canvas.pixels, *how, between))

    def restore(self, canvas: Canvas, step: FaceRestoreStep, between: Between) -> Canvas:
        raise NotImplementedError("no chain here has such a step")


class _Unheard:
    """Hears how a chain gets on, and does nothing about it."""

    def piece(self, done: int, pieces: int) -> None: ...

    def step(self, done: int, steps: int) -> None: ...


def by_executor(chain: Chain, pixels: Pixels) -> tuple[Pixels, bytes]:
    """The result and its file as a worker makes them."""
    canvas = Executor(_Networks()).run(Canvas(pixels), chain.steps, _Unheard())
    return canvas.pixels, encode_image(canvas.whole(), chain.output)


def by_hand(chain: Chain, pixels: Pixels) -> tuple[Pixels, bytes]:
    """The same without this server; a PNG at deflate's fastest level, colours of a JPEG at full
    resolution, as this server's."""
    result = chain.plain(pixels)
    file = io.BytesIO()
    options: dict[str, object] = {"quality": _QUALITY, "subsampling": "4:4:4"}
    if chain.format is ImageFileFormat.PNG:
        options = {"compress_level": 1}
    Image.fromarray(result).save(file, chain.format.value, **options)
    return result, file.getvalue()


def _sharpened(pixels: Pixels, amount: float, radius: float) -> Pixels:
    plain = pixels.astype(np.float32)
    soft = gaussian_filter(plain, (radius, radius, 0), mode="nearest", truncate=4.0)
    sharpened: Pixels = np.rint(plain + amount * (plain - soft)).clip(0, 255).astype(np.uint8)
    return sharpened


def _coloured(image: Image.Image, contrast: float, saturation: float) -> Image.Image:
    image = ImageEnhance.Contrast(image).enhance(contrast)
    return ImageEnhance.Color(image).enhance(saturation)


def _enlarged(pixels: Pixels) -> Pixels:
    return _sharpened(plain_call(upscaler(), pixels), 1.0, 1.0)


def _resized(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).resize((width * 3 // 4, height * 3 // 4), 1)
    return np.asarray(_coloured(image, 1.2, 1.3))


def _classical(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels).crop((8, 8, width - 8, height - 8))
    image = image.transpose(Image.Transpose.ROTATE_270)
    image = Image.fromarray(_sharpened(np.asarray(image), 0.5, 2.0))
    image = _coloured(image, 0.9, 1.1)
    return np.asarray(ImageOps.expand(image, 16, "#203040"))


def _colours() -> npt.NDArray[np.float32]:
    """A table that lifts shadows and turns hues a little, float32 `[entries^3, 3]`."""
    axis = np.linspace(0, 1, _ENTRIES)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    found = np.stack((red**0.8, 0.9 * green + 0.1 * red, blue**1.2), -1)
    return found.reshape(-1, 3).astype(np.float32)


def _graded(pixels: Pixels) -> Pixels:
    table = ImageFilter.Color3DLUT(_ENTRIES, _colours().ravel().tolist())
    return np.asarray(Image.fromarray(pixels).filter(table))


def chains(edge: int, folder: Path) -> tuple[Chain, ...]:
    """Those that are compared, on a square picture with such an edge.

    Args:
        edge: In pixels.
        folder: Where a table of colours is put.
    """
    path = folder / "colours"
    path.write_bytes(_colours().astype("<f4").tobytes())
    table = Table(path, _ENTRIES, True, (0.0,) * 3, (1.0,) * 3)
    small = edge * 3 // 4
    png, jpeg = ImageFileFormat.PNG, ImageFileFormat.JPEG
    return (
        Chain(
            "upscale 2x, sharpen, JPEG",
            (UpscaleStep(factor=2.0), SharpenStep()),
            _enlarged,
            jpeg,
            4,
        ),
        Chain(
            "resize, colour, PNG",
            (ResizeStep(small, small), ColorStep(contrast=1.2, saturation=1.3)),
            _resized,
            png,
            2,
        ),
        Chain(
            "crop, rotate, sharpen, colour, pad, JPEG",
            (
                CropStep(8, 8, edge - 16, edge - 16),
                RotateStep(),
                SharpenStep(amount=0.5, radius_pixels=2.0),
                ColorStep(contrast=0.9, saturation=1.1),
                PadStep(16, 16, 16, 16, fill="#203040"),
            ),
            _classical,
            jpeg,
            2,
        ),
        Chain("table of colours, PNG", (LutStep(table=table),), _graded, png, 1),
    )
