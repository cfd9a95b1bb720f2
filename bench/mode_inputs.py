"""What modes of generation are measured on: shapes, pictures, and settings of both sides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from domains.inference.types import SeedVariation
from domains.picture.types import PreparedPicture

STRENGTH, SCALE = 0.6, 1.5
VARIATION = SeedVariation(11, 0.3)
LORAS = {"line-art": 0.7, "pixel-art": 0.5}
SWITCH_AT = 0.8
CLIP_SKIP = 1


@dataclass(frozen=True)
class Shape:
    """Steps of the schedule, and pixels along an edge of the square pictures."""

    steps: int
    edge: int


@dataclass(frozen=True)
class Inputs:
    """Square pictures: what is drawn from, its part that is drawn anew, edges to follow."""

    start: Image.Image
    mask: Image.Image
    edges: Image.Image


def inputs_of(edge: int) -> Inputs:
    """Pictures of that many pixels along an edge."""
    gradient = np.linspace(0, 255, edge * edge * 3).reshape(edge, edge, 3)
    quarter = edge // 4
    middle = (quarter, quarter, edge - quarter, edge - quarter)
    mask, edges = Image.new("L", (edge, edge)), Image.new("RGB", (edge, edge))
    ImageDraw.Draw(mask).rectangle(middle, fill=255)
    ImageDraw.Draw(edges).ellipse(middle, outline="white")
    return Inputs(Image.fromarray(gradient.astype(np.uint8)), mask, edges)


def prepared(image: Image.Image, folder: Path) -> PreparedPicture:
    """A picture as the server gives it to the engine."""
    data = image.tobytes()
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / sha256
    path.write_bytes(data)
    return PreparedPicture(path, *image.size, sha256, image.mode == "L")
