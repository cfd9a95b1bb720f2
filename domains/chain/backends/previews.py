"""How a picture looks while a chain works on it: after its steps, and as tiles come in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from domains.chain.backends.canvas import Canvas, Pixels
from domains.chain.backends.upscaling.tiled import Box
from domains.chain.types import Size
from domains.picture.backends.colour import to_srgb
from domains.picture.backends.previews import preview_of, preview_size
from domains.session.types import Preview, PreviewSettings

_LEAST_SECONDS = 0.25
"""Between two previews of tiles or faces: more of them nobody can follow."""
# Of the pixels of a large picture so many are looked at for one of a preview, along an edge:
# looking at all of them would take as long as a step does.
_SAMPLES = 4


@dataclass
class ChainPreviews:
    """Shows one picture of a chain.

    Attributes:
        settings: How often and how large; they ask for some.
        image_index: Which picture, from 0.
        emit: Gets them.
        now: Tells seconds.
    """

    settings: PreviewSettings
    image_index: int
    emit: Callable[[Preview], None]
    now: Callable[[], float] = time.monotonic
    _shown_at: float = field(default=-_LEAST_SECONDS)

    def step(self, canvas: Canvas, done: int, steps: int) -> None:
        """So many steps are done. Of the last one the picture itself comes."""
        if done < steps and self._due(done):
            size = preview_size(canvas.size, self.settings.max_edge_pixels)
            self._show(_small(canvas, size), done)

    def enlarging(self, canvas: Canvas, size: Size) -> Forming:
        """The picture on its way to that size, to hear of its tiles."""
        small = preview_size(size, self.settings.max_edge_pixels)
        return Forming(
            _small(canvas, small), lambda tiles, done: self._piece(lambda: tiles, done)
        )

    def face(self, canvas: Canvas, done: int) -> None:
        """So many faces are redrawn, and it looks like that now."""
        size = preview_size(canvas.size, self.settings.max_edge_pixels)
        self._piece(lambda: _small(canvas, size), done)

    def _piece(self, small: Callable[[], Pixels], done: int) -> None:
        now = self.now()
        if self._due(done) and now - self._shown_at >= _LEAST_SECONDS:
            self._shown_at = now
            self._show(small(), done)

    def _due(self, done: int) -> bool:
        return done % self.settings.every_steps == 0

    def _show(self, small: Pixels, done: int) -> None:
        opaque = to_srgb(Image.fromarray(small))
        self.emit(preview_of(opaque, image_index=self.image_index, step=done))


class Forming:
    """A picture that is enlarged tile by tile. What is not enlarged yet shows as it was.

    Args:
        small: uint8 `[height, width, 3]`, or 4 with an alpha, which stays: the picture before.
        show: Gets it after each tile, with how many are done.
    """

    def __init__(self, small: Pixels, show: Callable[[Pixels, int], None]) -> None:
        self._small = small.copy()
        self._show = show

    def tile(self, tile: torch.Tensor, box: Box, done: int) -> None:
        """A tile is done.

        Args:
            tile: float32 `[3, height, width]`, 0 to 1 and not yet clipped, on its device.
            box: Where it lies, in shares of the picture's edges.
            done: So many tiles are.
        """
        height, width = self._small.shape[:2]
        left, right = round(box.left * width), round(box.right * width)
        top, bottom = round(box.top * height), round(box.bottom * height)
        if right > left and bottom > top:
            shape = (bottom - top, right - left)
            few = torch.nn.functional.adaptive_avg_pool2d(tile[None], shape)[0]
            levels = (few * 255).round_().clamp_(0, 255).to(torch.uint8)
            self._small[top:bottom, left:right, :3] = levels.permute(1, 2, 0).cpu().numpy()
        self._show(self._small, done)


def _small(canvas: Canvas, size: Size) -> Pixels:
    """The picture at a preview's width and height."""
    width, height = canvas.size
    across, down = (
        max(1, edge // (_SAMPLES * wanted))
        for edge, wanted in ((width, size[0]), (height, size[1]))
    )
    # From the middle of what each stands for.
    some = (slice(down // 2, None, down), slice(across // 2, None, across))
    alpha = None if canvas.alpha is None else canvas.alpha[some]
    sampled = Canvas(canvas.pixels[some], alpha)
    return np.asarray(sampled.image().resize(size, Image.Resampling.BICUBIC))
