"""The pictures everything is made of, and which combinations training never sees."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

DATA = Path(__file__).parents[2] / "data" / "fluent-emoji"
SIDE = 256

# The colours that the base model draws for these words, read off its own pictures.
COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (216, 42, 42),
        "blue": (51, 99, 220),
        "green": (60, 160, 72),
        "yellow": (249, 210, 62),
        "orange": (247, 142, 42),
        "purple": (130, 62, 180),
        "pink": (248, 153, 188),
        "teal": (32, 138, 138),
        "white": (255, 255, 255),
        "black": (18, 18, 18),
        "gray": (140, 140, 140),
        "brown": (120, 80, 48),
        "cyan": (90, 210, 230),
        "navy": (20, 35, 90),
        "lime": (150, 220, 60),
        "beige": (235, 218, 190),
    }
)
WHITE = list(COLOURS).index("white")

Index = TypeVar("Index", int, Tensor)


@dataclass(frozen=True)
class EmojiSet:
    """Names and pictures in the order of `captions.json`.

    `pictures` is uint8 [N, 4, 256, 256], RGBA, not premultiplied.
    """

    names: tuple[str, ...]
    pictures: Tensor

    def __len__(self) -> int:
        return len(self.names)


def load_emoji(folder: Path = DATA, limit: int | None = None) -> EmojiSet:
    """Reads the first `limit` emoji, or all; raises ValueError for another size than 256."""
    captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))[:limit]
    pictures = torch.empty(len(captions), 4, SIDE, SIDE, dtype=torch.uint8)
    for row, caption in enumerate(captions):
        with Image.open(folder / caption["image"]) as picture:
            if picture.size != (SIDE, SIDE):
                raise ValueError(f"{caption['image']}: expected 256x256, got {picture.size}")
            pixels = np.array(picture.convert("RGBA"))
        pictures[row] = torch.from_numpy(pixels).permute(2, 0, 1)
    return EmojiSet(tuple(caption["name"] for caption in captions), pictures)


def is_held_out(emoji: Index, colour: Index) -> Index:
    """Whether training never draws this emoji (by position) on this colour (by position).

    One combination in 16, chosen by a multiplicative hash so that no emoji and no colour is
    left out as a whole. For tensors: int64 of one shape in, bool of that shape out.
    """
    mixed = (emoji * 2654435761 + colour * 2246822519) // 8192
    return (mixed % 16) == 7
