"""Pictures that classifiers are proved with: made by code, and photographs.

`python -m tests.domains.chain.judged FOLDER` writes their pixels for `record.mjs`, which has
nsfwjs itself judge them and prints `nsfwjs.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from domains.chain.backends.classifiers import Pixels

HERE = Path(__file__).parent
RECORDED = HERE / "nsfwjs.json"
"""What nsfwjs 4.3.0 says of each under TensorFlow.js 4.22.0, in its order of classes."""
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "camera", "rocket")


def photograph(name: str) -> Pixels:
    """One of the photographs."""
    return np.asarray(Image.open(HERE / f"{name}.jpg"))


def cartoon(width: int, height: int) -> Pixels:
    """A face of flat colours with black outlines, as in a comic."""
    down, across = np.indices((height, width))
    pixels = np.full((height, width, 3), (150, 210, 250), np.uint8)

    def disc(x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
        away = (across - x * width) ** 2 + (down - y * height) ** 2
        reach = radius * min(width, height)
        pixels[away <= (reach + 3) ** 2] = 0
        pixels[away <= reach**2] = color

    disc(0.5, 0.55, 0.36, (250, 220, 190))
    disc(0.5, 0.16, 0.2, (120, 60, 20))
    for x in (0.38, 0.62):
        disc(x, 0.48, 0.08, (255, 255, 255))
        disc(x, 0.5, 0.03, (40, 90, 200))
    disc(0.5, 0.75, 0.07, (200, 40, 60))
    return pixels


def gradient(width: int, height: int) -> Pixels:
    """Colours that fade into each other."""
    down, across = np.indices((height, width))
    red, green = across * 255 // max(width - 1, 1), down * 255 // max(height - 1, 1)
    return np.stack([red, green, 255 - (red + green) // 2], -1).astype(np.uint8)


def noise(width: int, height: int) -> Pixels:
    """Independent levels."""
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def made() -> Mapping[str, Pixels]:
    """Those made by code, of several shapes: as the network takes them, smaller, larger."""
    return {
        "cartoon": cartoon(224, 224),
        "cartoon-wide": cartoon(500, 310),
        "cartoon-small": cartoon(64, 96),
        "gradient": gradient(301, 223),
        "noise": noise(256, 256),
        "black": np.zeros((224, 224, 3), np.uint8),
        "dot": np.full((1, 1, 3), 200, np.uint8),
    }


def every() -> Mapping[str, Pixels]:
    """All of them by name."""
    return {**made(), **{name: photograph(name) for name in PHOTOGRAPHS}}


def write(folder: Path) -> None:
    """Write the pixels of all, and their sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in every().items():
        (folder / f"{name}.rgb").write_bytes(pixels.tobytes())
    sizes = {name: pixels.shape[:2] for name, pixels in every().items()}
    (folder / "sizes.json").write_text(json.dumps(sizes))
